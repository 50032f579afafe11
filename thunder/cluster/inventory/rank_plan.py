"""Plan each rank before anything starts: command line, environment and addresses. No side effects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thunder.cluster.inventory.cluster_file import Cluster, Host
from thunder.cluster.inventory.openblas import INSTALL_HINT

HOSTFILE = "hostfile.json"
FAST_SYNCH_VARIABLE = "MLX_METAL_FAST_SYNCH"
# whether a rank is the first on its host, and keeps checkpoints there
IS_PRIMARY = "THUNDER_IS_PRIMARY"
# faults that tests inject into a rank
FAULTS_VARIABLE = "THUNDER_FAULTS"
BACKEND_VARIABLE = "THUNDER_BACKEND"
THIS_MACHINE = "this machine"
RELAXED_WATCHDOG_VARIABLE = "AGX_RELAX_CDM_CTXSTORE_TIMEOUT"
# The identity of a rank. Never inherited: a value left in the user's shell would send a rank into another run's ring.
IDENTITY_VARIABLES = (
    "MLX_RANK",
    "MLX_HOSTFILE",
    "MLX_IBV_DEVICES",
    "MLX_JACCL_COORDINATOR",
    BACKEND_VARIABLE,
    "THUNDER_RANK",
    "THUNDER_WORLD_SIZE",
    "THUNDER_JOB_ID",
    "THUNDER_EVENTS_FD",
    "THUNDER_LIFELINE_FD",
    IS_PRIMARY,
)
FORCED_ENV = {
    "PYTHONUNBUFFERED": "1",
    # 1 can leave the GPU busy until the Mac restarts, and all ranks must use the same value
    FAST_SYNCH_VARIABLE: "0",
}


# by default glibc returns freed arrays to the system and faults them in again page by page: a third of a step's time
MALLOC_ENV = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25)}


@dataclass(frozen=True)
class RankPlan:
    """How to start one rank. env: variables set on top of the inherited ones. cwd: None means the launcher's folder.

    Paths of a rank on another host are paths of that host: `~` is its home, relative paths are below its project
    folder, and that host adds its own system tuning. transient: the run's folder there is removed at the end. devices:
    for JACCL, the RDMA devices that lead to each rank's host.
    """

    rank: int
    host: Host
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path | None
    addresses: tuple[str, ...]
    run_folder: str = ""
    transient: bool = False
    devices: tuple[str | list[str] | None, ...] = ()

    @property
    def is_remote(self) -> bool:
        """Whether the rank runs on another host, under that host's agent."""
        return not self.host.is_this_machine

    @property
    def address(self) -> str:
        """The address on which the rank listens, 'ip:port'; with several cables, the first one."""
        return self.addresses[0]

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Return the whole environment of the rank's process."""
        return {key: value for key, value in inherited.items() if key not in IDENTITY_VARIABLES} | self.env


def plan_ranks(
    cluster: Cluster,
    *,
    command: Sequence[str],
    ports: Sequence[int],
    job_id: str,
    run_folder: Path,
    cores: int,
    openblas: Path | None,
    system: str,
    user_environ: Mapping[str, str],
) -> tuple[RankPlan, ...]:
    """Plan every rank of a cluster.

    command: the rank's command line; the host's `python`, if set, replaces its first word. ports: one per rank. job_id:
    hexadecimal. cores: of this machine, shared by its ranks.

    The cluster's `env` overrides the defaults and the user's environment, except for FORCED_ENV and IDENTITY_VARIABLES.
    """
    world = len(cluster.hosts)
    assert len(ports) == world, f"{len(ports)} ports for {world} ranks"
    assert int(job_id, 16) >= 0
    here = sum(host.is_this_machine for host in cluster.hosts)
    tuned = system_env(system, openblas, max(1, cores // max(1, here)), user_environ)
    hosts_seen: set[str] = set()
    plans = []
    for rank, (host, port) in enumerate(zip(cluster.hosts, ports, strict=True)):
        folder = str(run_folder.absolute()) if host.is_this_machine else remote_run_folder(host, run_folder.name)
        place = THIS_MACHINE if host.is_this_machine else f"ssh {host.ssh}"
        shared = (tuned if host.is_this_machine else {}) | cluster.env
        shared = {key: value for key, value in shared.items() if key not in IDENTITY_VARIABLES} | FORCED_ENV
        rank_env = {IS_PRIMARY: "0" if place in hosts_seen else "1"}
        rank_env |= {FAULTS_VARIABLE: user_environ[FAULTS_VARIABLE]} if FAULTS_VARIABLE in user_environ else {}
        hosts_seen.add(place)
        words = (folder if word == str(run_folder) else word for word in command[1:])
        plans.append(
            RankPlan(
                rank=rank,
                host=host,
                argv=(host.python or command[0], *words),
                env=shared | rank_env | _identity_env(rank, world, job_id) | _backend_env(cluster, rank, ports, folder),
                cwd=Path(host.folder) if host.folder else None,
                addresses=tuple(f"{ip}:{port}" for ip in host.ips),
                run_folder=folder,
                devices=tuple(host.rdma or ()) if cluster.backend == "jaccl" else (),
            )
        )
    return tuple(plans)


def remote_run_folder(host: Host, run: str) -> str:
    """Return a run's folder on another host: below `runs` of the cluster file, else below its project's runs/."""
    return f"{(host.runs_folder or 'runs').rstrip('/')}/{run}"


def format_hostfile(plans: Sequence[RankPlan]) -> str:
    """Return the file that MLX reads: the addresses of every rank in order; for JACCL, the devices between ranks."""
    return json.dumps([list(plan.devices or plan.addresses) for plan in plans]) + "\n"


def environment_notes(
    *,
    system: str,
    openblas: Path | None,
    cores: int,
    ranks: int,
    user_environ: Mapping[str, str] | None = None,
    cluster_env: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Return the plan's notes on the ranks' environment. ranks: the number of ranks on this machine."""
    notes = []
    if system == "Linux" and openblas is None:
        notes.append(f"OpenBLAS not found: training is 10-50 times slower; {INSTALL_HINT}")
    elif system == "Linux":
        chosen = {**system_env(system, openblas, max(1, cores // ranks), user_environ or {}), **(cluster_env or {})}
        threads = chosen["OPENBLAS_NUM_THREADS"]
        notes.append(f"OpenBLAS preloaded, {threads} thread{'' if threads == '1' else 's'} a rank")
    for key, value in (cluster_env or {}).items():
        if key in IDENTITY_VARIABLES or FORCED_ENV.get(key, value) != value:
            notes.append(f"{key}={value} of the cluster file is ignored: the launcher sets this variable")
    return tuple(notes)


def _identity_env(rank: int, world: int, job_id: str) -> dict[str, str]:
    return {"THUNDER_RANK": str(rank), "THUNDER_WORLD_SIZE": str(world), "THUNDER_JOB_ID": job_id}


def _backend_env(cluster: Cluster, rank: int, ports: Sequence[int], folder: str) -> dict[str, str]:
    """Return the variables that MLX reads to find its peers; none for a world of one."""
    if len(cluster.hosts) == 1:
        return {}
    env = {"MLX_RANK": str(rank), BACKEND_VARIABLE: cluster.backend}
    if cluster.backend == "jaccl":
        coordinator = f"{cluster.hosts[0].ips[0]}:{ports[0]}"
        return env | {"MLX_IBV_DEVICES": f"{folder}/{HOSTFILE}", "MLX_JACCL_COORDINATOR": coordinator}
    return env | {"MLX_HOSTFILE": f"{folder}/{HOSTFILE}"}


def system_env(system: str, openblas: Path | None, threads: int, user: Mapping[str, str]) -> dict[str, str]:
    """Return variables that tune this system. Values set by the user stay and are passed on to every host."""
    if system == "Darwin":
        # without it macOS kills long GPU command buffers while a display is on
        return {RELAXED_WATCHDOG_VARIABLE: user.get(RELAXED_WATCHDOG_VARIABLE, "1")}
    if system != "Linux" or openblas is None:
        return {}
    preloaded = user.get("LD_PRELOAD", "")
    if "openblas" not in preloaded:
        preloaded = f"{preloaded}:{openblas}" if preloaded else str(openblas)
    defaults = {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads), **MALLOC_ENV}
    return {"LD_PRELOAD": preloaded} | {name: user.get(name, value) for name, value in defaults.items()}

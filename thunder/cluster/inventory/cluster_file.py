"""Read clusters (the hosts of a run's ranks) from a YAML cluster file or from mlx's hostfile."""

from __future__ import annotations

import ipaddress
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from thunder.cluster.inventory import hostfile
from thunder.config import CONFIGS, Settings, load_yaml, suggest_name
from thunder.errors import ConfigError, UsageError, combined_error

LOCAL = "local"
LOOPBACK = "127.0.0.1"
CLUSTERS = CONFIGS / "clusters"
USER_FOLDER = Path(".config/thunder")
USER_DEFAULT = USER_FOLDER / "cluster.yaml"
SUFFIXES = (".yaml", ".yml", ".json")
_RDMA_FORM = "one device for each host in the list's order, null for the host itself"


def check_ring_address(text: str) -> str:
    """Accept IPv4 addresses only: MLX's ring does not resolve names and splits 'ip:port' at the first colon (MLX
    0.32.4).
    """
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        raise ValueError("expected an IPv4 address such as 10.0.0.1: MLX's ring cannot resolve names") from None
    return text


def _check_plain_text(text: str) -> str:
    """Reject control characters and line ends, which a shell, a path or a known_hosts line would misread."""
    for place, letter in enumerate(text):
        if unicodedata.category(letter) in _CONTROL_CATEGORIES:
            raise ValueError(f"character {place + 1} is U+{ord(letter):04X}: expected text without control characters")
    return text


def _check_ssh_name(text: str) -> str:
    """Reject names that ssh would read as an option or a shell as more than one word."""
    host = text.rpartition("@")[2]
    if (
        text.startswith("-")
        or host.startswith("-")
        or not host
        or set(text) & _SHELL_CHARACTERS
        or text.split() != [text]
    ):
        raise ValueError("expected a host name or user@host")
    return text


def _check_device_names(devices: str | list[str] | None) -> str | list[str] | None:
    for name in [devices] if isinstance(devices, str) else devices or []:
        if not name.isascii() or not name.replace("_", "").isalnum():
            raise ValueError("expected a device such as rdma_en2, or null")
    return devices


def check_env_names(values: dict[str, str]) -> dict[str, str]:
    """Check the names of environment variables; raises ValueError."""
    faults = [key for key in values if not (key.isidentifier() and key.isascii())]
    if faults:
        raise ValueError(f"{faults[0]!r} is not the name of an environment variable")
    return values


_CONTROL_CATEGORIES = {
    "Cc",
    "Cs",
    "Zl",
    "Zp",
}  # Unicode categories: control, surrogate, line and paragraph separator
_SHELL_CHARACTERS = set("'\"`$\\;&<>|(){}*?!#~")
PlainText = Annotated[str, Field(min_length=1), AfterValidator(_check_plain_text)]
EnvValue = Annotated[str, AfterValidator(_check_plain_text)]


class Host(Settings):
    """The host of one rank. ssh: its SSH name (None or loopback: this machine). ips: its addresses, one per cable.

    folder: the project's folder on the host; runs: its folder of runs, below `folder` unless it begins with / or ~/.
    rdma: for JACCL, the device (or devices) towards each host of the cluster, None for the host itself.
    """

    name: PlainText
    ssh: Annotated[PlainText, AfterValidator(_check_ssh_name)] | None = None
    ips: list[Annotated[str, AfterValidator(check_ring_address)]] = Field(min_length=1)
    python: PlainText | None = None
    folder: PlainText | None = None
    runs: PlainText | None = None
    rdma: list[Annotated[str | list[str] | None, AfterValidator(_check_device_names)]] | None = None
    memory_gb: float | None = Field(None, gt=0)

    @property
    def is_this_machine(self) -> bool:
        """Whether ranks of this host start without SSH."""
        return self.ssh is None or self.ssh == "localhost" or _is_loopback(self.ssh)

    @property
    def runs_folder(self) -> str | None:
        """The folder of runs on that host, as a path of that host; None if the file has neither `runs` nor `folder`."""
        runs = self.runs or "runs"
        if runs.startswith(("/", "~/")):
            return runs
        return f"{self.folder.rstrip('/')}/{runs}" if self.folder else self.runs

    def devices_to(self, place: int) -> list[str]:
        """Return the RDMA devices towards the host at an index of the list."""
        devices = self.rdma[place] if self.rdma and place < len(self.rdma) else None
        return [devices] if isinstance(devices, str) else devices or []


class Cluster(Settings):
    """The hosts of a run, in rank order. env: environment variables of every rank."""

    name: PlainText
    backend: Literal["ring", "jaccl"] = "ring"
    hosts: list[Host] = Field(min_length=1)
    env: Annotated[dict[PlainText, EnvValue], AfterValidator(check_env_names)] = {}

    @model_validator(mode="after")
    def _fits_together(self) -> Cluster:
        twice = [name for name, times in Counter(host.name for host in self.hosts).items() if times > 1]
        if twice:
            raise ValueError(f"two hosts have the name {twice[0]!r}: give each host its own name")
        first = self.hosts[0]
        for host in self.hosts:
            if len(set(host.ips)) < len(host.ips):
                raise ValueError(f"host {host.name!r} lists an address of `ips` twice: {', '.join(host.ips)}")
            if len(host.ips) != len(first.ips):
                raise ValueError(
                    f"host {first.name!r} has {len(first.ips)} ips and host {host.name!r} has {len(host.ips)}: "
                    "the ring needs the same number on each host"
                )
        if self.backend == "jaccl":
            self._check_rdma_devices()
        return self

    def _check_rdma_devices(self) -> None:
        """Check that each host has a device to every other host: JACCL connects all pairs, not a ring."""
        count = len(self.hosts)
        for place, host in enumerate(self.hosts):
            if host.rdma is None:
                raise ValueError(f"host {host.name!r} has no 'rdma', which backend jaccl needs: {_RDMA_FORM}")
            if len(host.rdma) != count:
                raise ValueError(
                    f"host {host.name!r} has {len(host.rdma)} entries in 'rdma' for {count} hosts: {_RDMA_FORM}"
                )
            if host.rdma[place] is not None:
                raise ValueError(
                    f"host {host.name!r}: rdma[{place}] is its own place and says {host.rdma[place]!r}: write null"
                )
            absent = [
                other.name for number, other in enumerate(self.hosts) if number != place and not host.devices_to(number)
            ]
            if absent:
                raise ValueError(f"host {host.name!r}: 'rdma' names no device towards {absent[0]!r}: {_RDMA_FORM}")


@dataclass(frozen=True)
class ClusterChoice:
    """A cluster, its file (None: built in) and the reason why it was chosen, for the plan."""

    cluster: Cluster
    path: Path | None
    reason: str


def local_cluster(ranks: int) -> Cluster:
    """Return a cluster of `ranks` ranks on this machine, over loopback.

    Raises UsageError if `ranks` is less than 1.
    """
    if ranks < 1:
        raise UsageError(f"--ranks {ranks}: expected 1 or more", fix="--ranks 2")
    return Cluster(name=LOCAL, hosts=[Host(name=f"{LOCAL}-{rank}", ips=[LOOPBACK]) for rank in range(ranks)])


def load_cluster(path: Path) -> Cluster:
    """Read a cluster file: YAML, or mlx's hostfile (.json) as a list of hosts or as a mapping with `hosts`.

    Raises ConfigError that lists every fault with its host, its value and the expected value.
    """
    content = hostfile.read_hostfile(path) if path.suffix == ".json" else load_yaml(path)
    content = {"name": path.stem, **content}
    try:
        return Cluster.model_validate(content)
    except ValidationError as error:
        faults = list(_validation_faults(error, content))
    raise combined_error(ConfigError, f"{path}: this cluster cannot be used:", faults, fix=f"correct {path}")


def to_hostfile(cluster: Cluster) -> dict[str, Any]:
    """Return the cluster as mlx's hostfile, which `mlx.launch --hostfile` and mlx_lm's tools read."""
    return {
        "backend": cluster.backend,
        "envs": [f"{key}={value}" for key, value in cluster.env.items()],
        "hosts": [
            {"ssh": host.ssh or LOOPBACK, "ips": list(host.ips)} | ({"rdma": host.rdma} if host.rdma else {})
            for host in cluster.hosts
        ],
    }


def choose_cluster(flag: str | None, environ: Mapping[str, str], home: Path, folder: Path = CLUSTERS) -> ClusterChoice:
    """Choose the cluster of a run from the first source that names one.

    1. `--cluster`: a name (NAME.yaml in configs/clusters, then in ~/.config/thunder/clusters) or a path;

    2. THUNDER_CLUSTER, in the same forms;

    3. the file ~/.config/thunder/cluster.yaml;

    4. otherwise two ranks on this machine.

    Raises ConfigError if the name is unknown (with the known names) or the file cannot be used.
    """
    name = flag or environ.get("THUNDER_CLUSTER")
    if name:
        path, reason = (
            _find_cluster_file(name, home, folder),
            f"--cluster {name}" if flag else f"THUNDER_CLUSTER={name}",
        )
    elif (home / USER_DEFAULT).exists():
        path, reason = home / USER_DEFAULT, f"~/{USER_DEFAULT}"
    else:
        path, reason = _find_cluster_file(LOCAL, home, folder), "no cluster named: two ranks on this machine"
    return ClusterChoice(load_cluster(path) if path else local_cluster(2), path, reason)


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def _find_cluster_file(name: str, home: Path, folder: Path) -> Path | None:
    """Return the file of a named cluster; None for `local` if there is no configs/ folder (an installed package)."""
    if "/" in name or name.endswith(SUFFIXES):
        return home / name[2:] if name.startswith("~/") else Path(name)
    own = home / USER_FOLDER / "clusters"
    for path in (folder / f"{name}.yaml", own / f"{name}.yaml"):
        if path.is_file():
            return path
    if name == LOCAL:
        return None
    known = {path.stem for place in (folder, own) for path in place.glob("*.yaml")} | {LOCAL}
    raise ConfigError(
        f"there is no cluster '{name}' in {folder} or {own}; known: {', '.join(sorted(known))}."
        f"{suggest_name(name, known)}",
        fix="name one of these, or give the path of a cluster file",
    )


def _validation_faults(error: ValidationError, content: Mapping[str, Any]) -> Iterator[str]:
    """Format each fault as 'host 2 (Mac5): ips[0]: expected ..., not 'x''."""
    for fault in error.errors():
        place = list(fault["loc"])
        kind: type[Settings] = Cluster
        where = ""
        if len(place) > 1 and place[0] == "hosts":
            number = int(place[1])
            host = content["hosts"][number]
            name = host.get("name") if isinstance(host, dict) else None
            where, place, kind = (
                f"host {number + 1}{f' ({name})' if name and str(name).isprintable() else ''}: ",
                place[2:],
                Host,
            )
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
        if fault["type"] == "extra_forbidden":
            yield f"{where}unknown key '{key}'.{suggest_name(key, kind.model_fields)}"
        elif fault["type"] == "missing":
            yield f"{where}'{key}' is missing"
        else:
            message = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input ")
            yield f"{where}{key}: {message}, not {fault['input']!r}" if key else f"{where}{message}"

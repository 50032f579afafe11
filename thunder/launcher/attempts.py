"""Run the attempts of a job: start ranks as the supervisor asks, collect their outputs, bundle the logs of a fault."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from thunder.cluster.health import preflight, probe
from thunder.cluster.inventory import openblas, ports, rank_plan
from thunder.cluster.inventory.cluster_file import Cluster, Host
from thunder.cluster.inventory.rank_plan import RankPlan
from thunder.cluster.ranks import oom_fallbacks, start_ranks
from thunder.cluster.ranks.collect import collect_outputs
from thunder.cluster.ranks.exit_causes import ExitCause, RankEnd
from thunder.cluster.ranks.start_ranks import StopRequest
from thunder.cluster.ranks.supervisor import Attempt, RunProgress, Supervisor
from thunder.cluster.ranks.watchdog import Deadlines
from thunder.errors import HangError, ResourceError, ThunderError
from thunder.launcher.job import Job
from thunder.launcher.options.setting_paths import state_folder
from thunder.launcher.run_follower import RunFollower
from thunder.runs.records import environment, incident, registry, run_record
from thunder.training.loop_settings import LoopSettings
from thunder.units import Seconds, format_path

SENT = (run_record.CONFIG, "plan.json", run_record.ENVIRONMENT)
RESTART_LOOK = Seconds(8)


def rank_plans(
    kind: str, cluster: Cluster, folder: Path, job_id: str, chosen_ports: Sequence[int], arguments: Sequence[str] = ()
) -> tuple[RankPlan, ...]:
    """Plan the command and environment of each rank; nothing is started."""
    return rank_plan.plan_ranks(
        cluster,
        command=(sys.executable, "-P", "-m", "thunder", "rank", str(folder), "--job", kind, *arguments),
        ports=chosen_ports,
        job_id=job_id,
        run_folder=folder,
        cores=environment.core_count(),
        openblas=openblas.find_openblas(platform.system()),
        system=platform.system(),
        user_environ=os.environ,
    )


@dataclass
class Attempts:
    """The attempts of one job. shape: the key under which GPU incidents are stored, if any."""

    job: Job
    cluster: Cluster
    folder: Path
    follower: RunFollower
    shape: oom_fallbacks.WorkloadShape | None
    progress: RunProgress = field(default_factory=RunProgress)

    def run(self) -> None:
        """Run the job to its end.

        Raises the ThunderError that the job failed with. After a hang, or where no smaller shape is left, the logs are
        bundled first.
        """
        settings: LoopSettings = self.job.settings
        self.fallbacks = oom_fallbacks.fallback_sequence(
            settings.batch_size, settings.grad_checkpoint, settings.may_recompute
        )
        first, taught_by = oom_fallbacks.remembered_fallback(state_folder(), self.shape) if self.shape else (0, "")
        first = min(first, len(self.fallbacks) - 1)
        if first:
            self.follower.say(f"starting with {self.fallbacks[first]}: more was too much for this chip in {taught_by}")
        supervisor = Supervisor(
            start=self.start,
            folder=self.folder,
            fallbacks=self.fallbacks,
            hosts=self.cluster.hosts,
            find_missing=self.missing,
            print_line=self.follower.say,
            solo_after=None if settings.allow_solo is None else Seconds(settings.allow_solo),
            max_wait=Seconds(settings.wait_for_hosts),
            fallback=first,
            on_fallback=self.remember,
            progress=self.progress,
        )
        try:
            supervisor.run()
        except ThunderError as error:
            with contextlib.suppress(OSError):  # a full disk must not hide the error
                registry.write_end(self.folder, error)
            if not isinstance(error, HangError | ResourceError):
                raise
            try:
                where = f"logs, stacks and versions: {format_path(incident.pack_incident(self.folder))}"
            except OSError as fault:
                where = f"logs and stacks could not be bundled: {fault.strerror}"
            error.fix = f"{error.fix}\n  {where}".strip()
            raise

    def start(self, attempt: Attempt, stop: StopRequest) -> Sequence[RankEnd]:
        """Run one attempt; returns how each rank ended. See supervisor.Supervisor."""
        cluster = without_hosts(self.cluster, attempt.absent)
        drawn = draw_ports(cluster)
        plans = rank_plans(self.job.kind, cluster, self.folder, secrets.token_hex(3), drawn, self.arguments(attempt))
        plans = tuple(_with_env(each, self.fallbacks[attempt.fallback].env) for each in plans)

        def on_event(rank: int, event: dict[str, Any]) -> None:
            self.progress.record_event(event)
            self.follower.on_event(rank, event)

        ends = start_ranks.run_ranks(
            plans,
            log_folder=self.folder / "logs",
            on_event=on_event,
            stop=stop,
            files={name: (self.folder / name).read_text(encoding="utf-8") for name in SENT},
            deadlines=Deadlines.from_stall(self.job.settings.stall_after),
        )
        self._collect(cluster.hosts, ends)
        return ends

    def arguments(self, attempt: Attempt) -> tuple[str, ...]:
        """A rank's arguments beside its folder: runtime overrides, none of which changes what is computed."""
        forced = ("--force",) if self.job.settings.force else ()
        return ("--planned-ranks", str(len(self.cluster.hosts)), *self.fallbacks[attempt.fallback].arguments, *forced)

    def missing(self) -> dict[str, str]:
        """Hosts that cannot take part now, each with the reason; none where all ranks run on this machine."""
        if all(host.is_this_machine for host in self.cluster.hosts):
            return {}
        findings = preflight.cluster_findings(self.cluster, probe.probe_hosts(self.cluster, (), RESTART_LOOK))
        return absent_hosts(self.cluster.hosts, findings, self.job.settings.skip_link_check)

    def remember(self, cause: ExitCause, fallback: int) -> None:
        """Store the incident, so that the next run on this chip starts with this fallback."""
        if self.shape:
            incident_values = {"run": self.folder.name, "kind": cause.kind, "text": cause.error.message[:500]}
            try:
                oom_fallbacks.record_incident(state_folder(), self.shape, fallback, **incident_values)
            except OSError as error:
                self.follower.say(f"the next run will not know of this: {error.filename}: {error.strerror}")

    def _collect(self, hosts: Sequence[Host], ends: Sequence[RankEnd]) -> None:
        for host, end in zip(hosts, ends, strict=True):
            if end.outputs and not host.is_this_machine:
                collect_outputs(end, host, self.folder)


def draw_ports(cluster: Cluster) -> list[int]:
    """A port for each rank: free, where the rank is on this machine; an agent looks at its own before it is ready."""
    here = sum(host.is_this_machine for host in cluster.hosts)
    near = ports.free_ports(here) if here else []
    far = iter(ports.random_ports(len(cluster.hosts) - here, exclude=near))
    return [near.pop() if host.is_this_machine else next(far) for host in cluster.hosts]


def without_hosts(cluster: Cluster, absent: Sequence[str]) -> Cluster:
    """The cluster without some of its hosts."""
    return cluster.model_copy(update={"hosts": [host for host in cluster.hosts if host.name not in absent]})


def absent_hosts(hosts: Sequence[Host], findings: Sequence[preflight.Finding], skip_links: bool) -> dict[str, str]:
    """Hosts that cannot take part, each with the reason (pure). Of a pair whose link fails, the later one is absent."""
    gone: dict[str, str] = {}
    names = [host.name for host in hosts]
    for finding in findings:
        if finding.state != "failure":
            continue
        ends = finding.where.split(" -> ")
        if len(ends) == 1 and finding.check in ("ssh", "python"):
            gone.setdefault(finding.where, finding.found)
        elif len(ends) > 1 and not skip_links and not gone.keys() & set(ends):
            gone[max(ends, key=names.index)] = f"{finding.where}: {finding.found}"
    return gone


def _with_env(each: RankPlan, env: dict[str, str]) -> RankPlan:
    return replace(each, env=each.env | env)

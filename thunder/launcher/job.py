"""A job (what to run) and its placement (the cluster that it runs on)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from thunder.cluster.inventory import cluster_file
from thunder.errors import UsageError
from thunder.launcher.plan import JobFacts
from thunder.training.loop_settings import LoopSettings


@dataclass(frozen=True)
class Job:
    """A job: its kind, its settings with their sources, and the facts that its kind adds to the plan."""

    kind: str
    name: str
    settings: LoopSettings
    sources: dict[str, str]
    facts: JobFacts = field(default_factory=JobFacts)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Placement:
    """The cluster that a job runs on, and why it was chosen."""

    cluster: cluster_file.Cluster
    reason: str

    @property
    def ranks(self) -> int:
        """One rank for each host entry."""
        return len(self.cluster.hosts)

    @property
    def is_remote(self) -> bool:
        """Whether any rank runs on another host."""
        return not all(host.is_this_machine for host in self.cluster.hosts)


def choose_placement(settings: LoopSettings) -> Placement:
    """The cluster of a job: `--ranks` on this machine, else what `cluster_file.choose_cluster` finds."""
    if settings.ranks is not None:
        if settings.cluster is not None:
            raise UsageError(
                f"--ranks {settings.ranks} runs on this machine, --cluster {settings.cluster} names the hosts",
                fix="give one of them",
            )
        return Placement(cluster_file.local_cluster(settings.ranks), f"--ranks {settings.ranks}")
    choice = cluster_file.choose_cluster(settings.cluster, os.environ, Path.home())
    return Placement(choice.cluster, choice.reason)

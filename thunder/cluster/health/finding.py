"""A finding: what one check found, where, and the command that mends it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from thunder.cluster.inventory.cluster_file import Host

FindingState = Literal["ok", "warning", "failure"]
LINK_CHECKS = frozenset({"link", "cable", "route", "throughput", "local network"})


@dataclass(frozen=True)
class Finding:
    """What one check found. where: a host, or 'Mac4 -> Mac5'. fix: a command that can be copied."""

    check: str
    state: FindingState
    where: str
    found: str
    fix: str = ""


def is_link_finding(finding: Finding) -> bool:
    """Whether a finding is about the way between two hosts, and not about what a rank needs on its own."""
    return finding.check in LINK_CHECKS


def failures_first(findings: Iterable[Finding]) -> list[Finding]:
    """Failures, warnings, the rest; each in its own order."""
    order: dict[FindingState, int] = {"failure": 0, "warning": 1, "ok": 2}
    return sorted(findings, key=lambda each: order[each.state])


def host_command(host: Host, command: str) -> str:
    """A command as it is typed on the launching machine."""
    return command if host.is_this_machine else shlex.join(["ssh", "-t", host.ssh or host.name, command])


def quote_path(path: str) -> str:
    """A path of a host as a word of its shell, where a leading ~ still means its home."""
    return f"~/{shlex.quote(path[2:])}" if path.startswith("~/") and path[2:] else shlex.quote(path)

"""The result of one health check: where it looked, what it found, and the command that fixes it."""

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
    """The result of one check. where: a host, or 'Mac4 -> Mac5'. fix: a command that can be copied."""

    check: str
    state: FindingState
    where: str
    found: str
    fix: str = ""


def is_link_finding(finding: Finding) -> bool:
    """Whether a finding is about the connection between two hosts, not about a host itself."""
    return finding.check in LINK_CHECKS


def failures_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings: failures, warnings, the rest; each group keeps its order."""
    order: dict[FindingState, int] = {"failure": 0, "warning": 1, "ok": 2}
    return sorted(findings, key=lambda each: order[each.state])


def host_command(host: Host, command: str) -> str:
    """Return a command as it is typed on the launching machine."""
    return command if host.is_this_machine else shlex.join(["ssh", "-t", host.ssh or host.name, command])


def quote_path(path: str) -> str:
    """Quote a host's path for its shell; a leading ~ still expands to its home."""
    return f"~/{shlex.quote(path[2:])}" if path.startswith("~/") and path[2:] else shlex.quote(path)

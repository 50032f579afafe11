"""How ranks ended, and which of them is to blame: pure, from exit codes, last log lines and error events."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thunder.errors import (
    ArtifactError,
    ClusterError,
    HangError,
    Interrupted,
    ResourceError,
    RunFailed,
    ThunderError,
    UsageError,
)

TAIL_LINES = 15
KINDS: dict[int, type[ThunderError]] = {
    kind.exit_code: kind for kind in (UsageError, ArtifactError, ClusterError, HangError, ResourceError, Interrupted)
}
# What a rank says when another one is gone: a symptom, never the cause.
PEER_GONE = re.compile(r"connection to a peer was lost|\[ring\] Couldn't connect")
# What a rank that was told to stop ends with, if nothing else went wrong.
STOPPED = (0, Interrupted.exit_code, -signal.SIGTERM, -signal.SIGKILL)
PYTHON_ERROR = re.compile(r"^(Traceback \(most recent call last\):|Fatal Python error: )")


@dataclass(frozen=True)
class RankEnd:
    """How one rank ended.

    returncode: its exit code, or minus the signal's number. first: the first of the ranks to fail.
    tail: the last lines of its log. error: the error event that it sent, if any.
    told_to_stop: the launcher had signalled it before it ended; interrupted: because the user asked for that.
    malformed_events: lines on its event pipe that were not JSON objects.
    """

    rank: int
    host: str
    returncode: int
    first: bool
    tail: tuple[str, ...]
    log: Path
    error: Mapping[str, Any] | None = None
    told_to_stop: bool = False
    interrupted: bool = False
    malformed_events: int = 0

    @property
    def is_consequence(self) -> bool:
        """Whether it ended because of another rank or of the launcher."""
        if self.told_to_stop and self.returncode in STOPPED:
            return True
        said = str(self.error.get("message", "")) if self.error else "\n".join(self.tail)
        return bool(PEER_GONE.search(said))


def failure(ends: Sequence[RankEnd]) -> ThunderError | None:
    """The error to show for a run, or None where every rank ended with 0.

    It blames the rank that failed by itself, first among those; ranks that only lost a peer come last.
    A rank that ended with one of our exit codes gives the error that kind, and its error event gives the text.
    """
    failed = [end for end in ends if end.returncode != 0]
    if not failed:
        return None
    culprit = min(failed, key=lambda end: (end.is_consequence, not end.first, end.rank))
    if culprit.interrupted and culprit.is_consequence:
        return Interrupted(*_words(culprit, "was stopped as you asked"))
    return KINDS.get(culprit.returncode, RunFailed)(*_words(culprit, _manner(culprit.returncode)))


def last_lines(log: str, count: int = TAIL_LINES) -> tuple[str, ...]:
    """The last lines of a log, or those up to the last Python error where more than that came after it."""
    lines = log.splitlines()
    starts = [number for number, line in enumerate(lines) if PYTHON_ERROR.match(line)]
    end = len(lines)
    if starts:
        # a traceback's frames are indented; the first line that is not is the error itself
        frames = (number for number in range(starts[-1] + 1, len(lines)) if lines[number][:1] not in (" ", ""))
        said = next(frames, starts[-1])
        if said < len(lines) - count:
            end = said + 1
    return tuple(lines[max(0, end - count) : end])


def _words(end: RankEnd, manner: str) -> tuple[str, str]:
    """(message, fix) about one rank."""
    who, fix = f"rank {end.rank} on {end.host}", f"read {end.log}"
    if end.error:
        said, advice = str(end.error.get("message", "")), str(end.error.get("fix") or "")
        if end.returncode == Interrupted.exit_code:  # what the user asked for is no rank's fault
            return said, advice or fix
        if end.returncode in KINDS or advice:
            return f"{who}: {said}", advice or fix
        who += f": {said}; it"
    quoted = "".join(f"\n  | {line}" for line in end.tail)
    return f"{who} {manner}" + (f"; the last lines of its log:{quoted}" if quoted else "; its log is empty"), fix


def _manner(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    often = {"SIGKILL": " (often: out of memory)", "SIGABRT": " (on a Mac often: Metal's watchdog)"}
    return f"was killed by {name}{often.get(name, '')}"

"""Find out from exit codes, last log lines and error events why ranks ended and which rank is to blame. No side
effects.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

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
LOG_HEADING = "; the last lines of its log:"
ERRORS_BY_EXIT_CODE: dict[int, type[ThunderError]] = {
    kind.exit_code: kind for kind in (UsageError, ArtifactError, ClusterError, HangError, ResourceError, Interrupted)
}
# What a rank prints when it lost a peer: a symptom, never the cause.
PEER_GONE = re.compile(r"connection to a peer was lost|\[ring\] Couldn't connect")
# Exit codes of a rank that was told to stop, if nothing else went wrong.
STOPPED_EXIT_CODES = (0, Interrupted.exit_code, -signal.SIGTERM, -signal.SIGKILL)
# What Metal and the allocators print if a shape is too large for the machine.
GPU_TIMEOUT = re.compile(
    r"kIOGPUCommandBufferCallbackError(Timeout|ImpactingInteractivity|SubmissionsIgnored)"
    r"|Caused GPU Timeout|Impacting Interactivity"
)
OUT_OF_MEMORY = re.compile(
    r"kIOGPUCommandBufferCallbackErrorOutOfMemory|Insufficient Memory|\[metal::malloc\]|std::bad_alloc|MemoryError"
)
JOIN_TIMEOUT = re.compile(r"^Timeout \(\d+:\d\d:\d\d\)!", re.MULTILINE)
PYTHON_ERROR = re.compile(r"^(Traceback \(most recent call last\):|Fatal Python error: )")


@dataclass(frozen=True)
class RankEnd:
    """How one rank ended.

    returncode: its exit code, or minus the signal's number. failed_first: it was the first rank to fail. tail: the last
    lines of its log. error: the error event that it sent, if any. told_to_stop: the launcher signalled it before it
    ended; interrupted: because the user asked for that. malformed_events: lines on its event pipe that were not JSON
    objects. lost: how its host was lost; stalled: why it was killed for lack of progress. folder, outputs: the run's
    folder on another host, and the files that it made there (path inside -> SHA-256).
    """

    rank: int
    host: str
    returncode: int
    failed_first: bool
    tail: tuple[str, ...]
    log: Path
    error: Mapping[str, Any] | None = None
    told_to_stop: bool = False
    interrupted: bool = False
    malformed_events: int = 0
    lost: str = ""
    stalled: str = ""
    folder: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_consequence(self) -> bool:
        """Whether it ended because of another rank or of the launcher."""
        if self.lost or self.stalled:
            return False
        if self.told_to_stop and self.returncode in STOPPED_EXIT_CODES:
            return True
        text = str(self.error.get("message", "")) if self.error else "\n".join(self.tail)
        return bool(PEER_GONE.search(text))


CauseKind = Literal[
    "interrupted", "gpu timeout", "out of memory", "hang", "host lost", "killed", "peer lost", "own error"
]


@dataclass(frozen=True)
class ExitCause:
    """Why a run ended early. rank, host: the one to blame; error: what to show if the run is not restarted."""

    kind: CauseKind
    rank: int
    host: str
    error: ThunderError

    @property
    def summary(self) -> str:
        """The error in one line."""
        return (self.error.message.partition(LOG_HEADING)[0].splitlines() or [self.kind])[0]


def find_exit_cause(ends: Sequence[RankEnd]) -> ExitCause | None:
    """Return why a run failed; None if every rank ended with 0.

    The rank that failed by itself is blamed, the first of them if there are several; ranks that only lost a peer come
    last. The exit code of a rank selects the class of the error, and its error event gives the text.
    """
    failed = [end for end in ends if end.returncode != 0]
    if not failed:
        return None
    culprit = min(
        failed, key=lambda end: (end.is_consequence, _resource_kind(end) is None, not end.failed_first, end.rank)
    )
    kind, error = _classify_exit(culprit)
    return ExitCause(kind, culprit.rank, culprit.host, error)


def run_error(ends: Sequence[RankEnd]) -> ThunderError | None:
    """Return the error to show for a run; None if every rank ended with 0. See `find_exit_cause`."""
    cause = find_exit_cause(ends)
    return cause.error if cause else None


def _classify_exit(end: RankEnd) -> tuple[CauseKind, ThunderError]:
    who = f"rank {end.rank} on {end.host}"
    if end.interrupted and end.is_consequence:
        if end.error:
            return "interrupted", Interrupted(*_message_and_fix(end, "was stopped as you asked"))
        return "interrupted", Interrupted(f"{who} ended before it saved a checkpoint", fix="./launch.sh resume")
    if end.lost:
        return "host lost", ClusterError(f"{who}: {end.lost}", fix="thunder_status")
    if end.stalled:
        return "hang", HangError(f"{who} {end.stalled}", fix=f"read the stacks in {end.log}; then ./launch.sh resume")
    error = ERRORS_BY_EXIT_CODE.get(end.returncode, RunFailed)(
        *_message_and_fix(end, _describe_exit_code(end.returncode))
    )
    if end.returncode == Interrupted.exit_code:
        return "interrupted", error
    too_much = _resource_kind(end)
    if too_much:
        return too_much, ResourceError(error.message, error.fix)
    if end.is_consequence or end.returncode == ClusterError.exit_code or JOIN_TIMEOUT.search("\n".join(end.tail)):
        return "peer lost", error
    return ("killed" if end.returncode < 0 else "own error"), error


def _resource_kind(end: RankEnd) -> Literal["gpu timeout", "out of memory"] | None:
    """Return whether a rank's messages show that its shape is too large for its machine."""
    if end.returncode == 0 or end.lost or end.stalled:
        return None
    text = "\n".join([str((end.error or {}).get("message", "")), *end.tail])
    if GPU_TIMEOUT.search(text):
        return "gpu timeout"
    return "out of memory" if OUT_OF_MEMORY.search(text) else None


def log_tail(log: str, count: int = TAIL_LINES) -> tuple[str, ...]:
    """Return the last lines of a log, or the lines up to the last Python error if more than `count` lines follow it."""
    lines = log.splitlines()
    starts = [number for number, line in enumerate(lines) if PYTHON_ERROR.match(line)]
    end = len(lines)
    if starts:
        # frames of a traceback are indented; the first line that is not indented is the error itself
        frames = (number for number in range(starts[-1] + 1, len(lines)) if lines[number][:1] not in (" ", ""))
        error_line = next(frames, starts[-1])
        if error_line < len(lines) - count:
            end = error_line + 1
    return tuple(lines[max(0, end - count) : end])


def _message_and_fix(end: RankEnd, manner: str) -> tuple[str, str]:
    """Return (message, fix) about one rank."""
    who, fix = f"rank {end.rank} on {end.host}", f"read {end.log}"
    if end.error:
        message, advice = str(end.error.get("message", "")), str(end.error.get("fix") or "")
        if end.returncode == Interrupted.exit_code:  # the user asked for it, so do not blame a rank
            return message, advice or fix
        if end.returncode in ERRORS_BY_EXIT_CODE or advice:
            return f"{who}: {message}", advice or fix
        who += f": {message}; it"
    quoted = "".join(f"\n  | {line}" for line in end.tail)
    return f"{who} {manner}" + (f"{LOG_HEADING}{quoted}" if quoted else "; its log is empty"), fix


def _describe_exit_code(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    often = {"SIGKILL": " (often: out of memory)", "SIGABRT": " (on a Mac often: Metal's watchdog)"}
    return f"was killed by {name}{often.get(name, '')}"

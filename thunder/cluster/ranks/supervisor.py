"""Supervise a run: restart its ranks after a fault, on the hosts that are available, in a shape that they can compute.

`exit_causes` finds what happened; `decide_restart` (no side effects) decides what to do about it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from thunder.cluster.inventory.cluster_file import Host
from thunder.cluster.ranks.exit_causes import ExitCause, RankEnd, find_exit_cause
from thunder.cluster.ranks.oom_fallbacks import Fallback
from thunder.cluster.ranks.start_ranks import StopRequest, stop_on_signals
from thunder.errors import ClusterError, HangError, Interrupted, ResourceError, ThunderError
from thunder.units import Seconds

INCIDENTS = "incidents.jsonl"
MAX_RESTARTS = 3  # without a new checkpoint between them
HOST_POLL_INTERVAL = Seconds(5)  # between checks whether a host is back
MAX_HOST_WAIT = Seconds(600)  # for a missing host


@dataclass
class Attempt:
    """One start of the ranks. fallback: index into the fallback shapes. absent: hosts that the run goes on without."""

    number: int
    fallback: int = 0
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunIncident:
    """An incident that ended an attempt: a line of incidents.jsonl. checkpoint: the newest at that time."""

    time: float
    attempt: int
    kind: str
    rank: int
    host: str
    text: str
    step: int
    checkpoint: int
    action: str
    lost_steps: int


@dataclass
class RunProgress:
    """The progress of the ranks, by their events."""

    step: int = 0
    checkpoint: int = -1

    def record_event(self, event: dict[str, Any]) -> None:
        """Record one event of any rank."""
        step = event.get("step")
        if isinstance(step, int):
            if event.get("event") == "checkpoint":
                self.checkpoint = max(self.checkpoint, step)
            elif event.get("event") in ("step", "phase"):
                self.step = step


@dataclass(frozen=True)
class RestartDecision:
    """What to do after an attempt ended."""

    action: Literal["stop", "restart", "step down"]
    error: ThunderError | None = None


def decide_restart(cause: ExitCause, fallback: int, fallbacks: int, restarts_left: int) -> RestartDecision:
    """Stop, restart, or restart with the next fallback shape.

    Only causes that may go away are retried: a program's own error comes back every time.
    """
    if cause.kind in ("interrupted", "own error"):
        return RestartDecision("stop", cause.error)
    if cause.kind in ("gpu timeout", "out of memory"):
        if fallback + 1 < fallbacks:
            return RestartDecision("step down")
        text = f"{cause.summary}; and there is no smaller shape with this global batch"
        return RestartDecision("stop", ResourceError(text, fix="lower --max-seq-length or --num-layers"))
    if restarts_left > 0:
        return RestartDecision("restart")
    text = f"{MAX_RESTARTS} restarts without a new checkpoint; the last end: {cause.error.message}"
    return RestartDecision("stop", HangError(text, cause.error.fix))


# Starts the ranks of an attempt and returns when all have ended, also on a stop request; raises ClusterError if they
# cannot be started.
StartAttempt = Callable[[Attempt, StopRequest], Sequence[RankEnd]]
# Returns the hosts that cannot take part now, with the reason; called between attempts.
FindMissingHosts = Callable[[], dict[str, str]]


@dataclass
class Supervisor:
    """Runs attempts until one completes.

    hosts: all that take part; find_missing: returns those that cannot now, with the reason; solo_after: after this many
    seconds without them the other hosts go on alone (None: never), and join again at the next checkpoint. print_line:
    prints a line for the user.
    """

    start: StartAttempt
    folder: Path
    fallbacks: Sequence[Fallback]
    hosts: Sequence[Host]
    find_missing: FindMissingHosts
    print_line: Callable[[str], None]
    solo_after: Seconds | None = None
    max_wait: Seconds = MAX_HOST_WAIT
    fallback: int = 0
    on_fallback: Callable[[ExitCause, int], None] = lambda cause, rung: None
    progress: RunProgress = field(default_factory=RunProgress)
    stop: StopRequest = field(default_factory=StopRequest)

    def run(self) -> None:
        """Run to the end of the run.

        Raises HangError if the restarts are used up, ResourceError if no fallback is left, ClusterError if a host stays
        away, Interrupted, or the error of the run itself.
        """
        attempt, left, known = Attempt(1, self.fallback), MAX_RESTARTS, self.progress.checkpoint
        with stop_on_signals(self.stop):
            while True:
                cause = self._run_attempt(attempt)
                # clear a request that a fault overtook: the next attempt uses all hosts anyway
                regrouped, self.stop.regrouping = self.stop.regrouping, False
                if cause is None:
                    return
                if self.progress.checkpoint > known:
                    known, left = self.progress.checkpoint, MAX_RESTARTS
                if not (cause.kind == "interrupted" and regrouped and not self.stop.user_requests):
                    attempt, left = self._apply_decision(cause, attempt, left)
                attempt = Attempt(attempt.number + 1, attempt.fallback, self._wait_for_hosts())

    def _run_attempt(self, attempt: Attempt) -> ExitCause | None:
        """Run one attempt; a cluster that cannot be started counts as a lost peer."""
        over = threading.Event()
        if attempt.absent:
            threading.Thread(target=self._request_rejoin, args=(attempt.absent, over), daemon=True).start()
        try:
            return find_exit_cause(self.start(attempt, self.stop))
        except ClusterError as error:
            return ExitCause("peer lost", -1, "", error)
        finally:
            over.set()

    def _request_rejoin(self, absent: Sequence[str], over: threading.Event) -> None:
        """Ask the ranks to stop and start together after a new checkpoint, when no host is missing any more."""
        since = self.progress.checkpoint
        while not over.wait(HOST_POLL_INTERVAL):
            if self.progress.checkpoint > since and not set(absent) & self.find_missing().keys():
                if not over.is_set():
                    self.print_line(f"{', '.join(absent)}: back; joining again")
                    self.stop.regrouping = True
                return

    def _apply_decision(self, cause: ExitCause, attempt: Attempt, left: int) -> tuple[Attempt, int]:
        """Record what happened and go on, or raise."""
        decision = decide_restart(cause, attempt.fallback, len(self.fallbacks), left)
        self._record_incident(cause, attempt, decision.action)
        if decision.action == "stop":
            assert decision.error is not None
            raise decision.error
        if decision.action == "step down":
            below = attempt.fallback + 1
            self.on_fallback(cause, below)
            self.print_line(
                f"{cause.kind} on {cause.host}: going on with {self.fallbacks[below]}, the same global batch"
            )
            return Attempt(attempt.number, below, attempt.absent), left
        self.print_line(f"{cause.summary}: starting again ({left - 1} of {MAX_RESTARTS} restarts left)")
        return attempt, left - 1

    def _record_incident(self, cause: ExitCause, attempt: Attempt, action: str) -> None:
        newest = max(0, self.progress.checkpoint)
        incident = RunIncident(
            time=round(time.time(), 3),
            attempt=attempt.number,
            kind=cause.kind,
            rank=cause.rank,
            host=cause.host,
            text=cause.error.message,
            step=self.progress.step,
            checkpoint=newest,
            action=action,
            lost_steps=max(0, self.progress.step - newest),
        )
        if cause.kind == "interrupted":
            return
        try:
            with (self.folder / INCIDENTS).open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(json.dumps(asdict(incident), ensure_ascii=False) + "\n")
        except OSError as error:  # a full disk may be the cause itself: do not hide it
            self.print_line(f"{INCIDENTS} cannot be written: {error.strerror}")

    def _wait_for_hosts(self) -> tuple[str, ...]:
        """Wait until all hosts are available, or long enough to go on without the missing ones."""
        begun, printed = time.monotonic(), ""
        while missing := self.find_missing():
            waited = time.monotonic() - begun
            there = [host.name for host in self.hosts if host.name not in missing]
            if self.solo_after is not None and waited >= self.solo_after and there:
                self.print_line(f"going on without {', '.join(missing)}, with the same global batch")
                return tuple(missing)
            why = "; ".join(f"{name}: {text}" for name, text in missing.items())
            if waited >= self.max_wait:
                raise ClusterError(f"waited {waited:.0f} s for {why}", fix=f"./launch.sh resume {self.folder.name}")
            if why != printed:
                self.print_line(f"waiting for {why}")
                printed = why
            self._sleep(HOST_POLL_INTERVAL)
        return ()

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.stop.count:
                raise Interrupted("while waiting for hosts", fix=f"./launch.sh resume {self.folder.name}")
            time.sleep(0.1)

"""The watchdog: finds ranks that are overdue, by deadlines from the measured step times. The caller passes the time."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from thunder.units import Seconds


@dataclass(frozen=True)
class Deadlines:
    """How long a rank may take without progress, by its phase.

    step: the minimum for one step; `times` the median of the measured steps if that is longer. The ring resumes by
    itself if a cable is back within seconds, so a shorter deadline would do harm. first_step: includes compilation.
    beat: between two heartbeats.
    """

    step: Seconds = Seconds(30)
    times: float = 10
    first_step: Seconds = Seconds(300)
    starting: Seconds = Seconds(120)
    loading: Seconds = Seconds(900)
    other: Seconds = Seconds(120)
    beat: Seconds = Seconds(30)

    @classmethod
    def every(cls, seconds: float) -> Deadlines:
        """Return the same deadline for all phases."""
        return cls(**{name: Seconds(seconds) for name in cls.__dataclass_fields__ if name != "times"})

    @classmethod
    def from_stall(cls, seconds: float) -> Deadlines:
        """Scale all deadlines from the one for a step."""
        scale = seconds / cls.step
        return cls(
            **{name: Seconds(getattr(cls, name) * scale) for name in cls.__dataclass_fields__ if name != "times"}
        )


@dataclass(frozen=True)
class Stall:
    """A rank that is overdue. frozen: it sends no heartbeat."""

    rank: int
    frozen: bool
    text: str


@dataclass
class _RankState:
    last_progress: float
    last_heartbeat: float | None = None
    phase: str = "starting"
    counter: Any = None
    last_step: float | None = None
    step_times: deque[float] = field(default_factory=lambda: deque(maxlen=51))


# In these phases the interpreter's lock may be held for long, so that no heartbeat is sent: joining the ring, imports.
PHASES_WITHOUT_HEARTBEAT = ("starting", "joining")
# If the caller itself was stopped for longer than this, the elapsed time does not count against the ranks.
MAX_POLL_GAP = Seconds(5)


class Watchdog:
    """Takes the events of all ranks with their arrival times, and tells which rank is overdue."""

    def __init__(self, ranks: Iterable[int], now: float, deadlines: Deadlines | None = None) -> None:
        self.deadlines = deadlines or Deadlines()
        self._ranks = {rank: _RankState(last_progress=now) for rank in ranks}
        self._looked = now

    def record_event(self, rank: int, event: dict[str, Any], now: float) -> None:
        """Record one event of one rank; every event counts as a heartbeat, unless the rank has ended."""
        state, kind = self._ranks.get(rank), event.get("event")
        if state is None:
            return
        state.last_heartbeat = now
        if kind == "beat":
            if event.get("progress") == state.counter:
                return
            state.counter = event.get("progress")
        if kind == "phase":
            state.phase, state.last_step = str(event.get("phase")), None
        if kind == "step":
            if state.last_step is not None:
                state.step_times.append(now - state.last_step)
            state.last_step = now
        state.last_progress = now

    def mark_ended(self, rank: int) -> None:
        """Stop watching a rank that has ended."""
        self._ranks.pop(rank, None)

    def overdue(self, now: float) -> Stall | None:
        """Return the rank to blame if one is overdue: a frozen one before one that merely waits for its peers."""
        if now - self._looked > MAX_POLL_GAP:
            self._shift(now - self._looked)
        self._looked = now
        frozen = [
            (rank, now - state.last_heartbeat)
            for rank, state in self._ranks.items()
            if state.last_heartbeat is not None
            and state.phase not in PHASES_WITHOUT_HEARTBEAT
            and now - state.last_heartbeat > self.deadlines.beat
        ]
        if frozen:
            rank, silent = max(frozen, key=lambda pair: pair[1])
            return Stall(rank, True, f"sent no heartbeat for {silent:.0f} s (frozen, or its machine is asleep)")
        late = [
            (rank, state, now - state.last_progress)
            for rank, state in self._ranks.items()
            if now - state.last_progress > self.time_limit(rank)
        ]
        if late:
            rank, state, waited = max(late, key=lambda each: each[2])
            doing = "in a step" if state.phase == "training" else state.phase
            return Stall(
                rank,
                False,
                f"made no progress for {waited:.0f} s ({doing}, limit {self.time_limit(rank):.0f} s) while it sent "
                "heartbeats: a link is cut, or a collective operation hangs",
            )
        return None

    def time_limit(self, rank: int) -> float:
        """Return the seconds that a rank may now take without progress."""
        state, limits = self._ranks[rank], self.deadlines
        typical = statistics.median(state.step_times) if state.step_times else None
        if state.phase == "training":
            if typical is None:
                return limits.first_step
            return max(limits.step, limits.times * typical)
        if state.phase in ("starting", "joining"):
            return limits.starting
        if state.phase == "loading":
            return limits.loading
        return max(limits.other, limits.times * (typical or 0))

    def _shift(self, absent: float) -> None:
        for state in self._ranks.values():
            state.last_progress += absent
            state.last_heartbeat = state.last_heartbeat and state.last_heartbeat + absent
            state.last_step = None

"""Split the rows of a step over the ranks: evenly, or in proportion to their measured speeds.

An update is the sum over the same rows whoever computes them, so a split changes its rounding only.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import mlx.core as mx

from thunder.parallel import collectives, row_order
from thunder.parallel.world import World
from thunder.runs.records.run_record import RunRecord
from thunder.training.loop_settings import LoopSettings
from thunder.training.state import TrainState

UPDATES_BETWEEN_LOOKS = 5  # updates between two looks at the ranks' speeds
EQUAL_SPEEDS = 1.15  # ranks that differ by less count as equally fast
LEAST_GAIN = 1.05  # a new split is taken where a step gets shorter by more


class Balance:
    """The split of a run. All ranks decide from the same gathered numbers, so they have the same split."""

    def __init__(self, world: World, settings: LoopSettings, speeds: Sequence[float]) -> None:
        """speeds: rows a second of each rank, from a checkpoint; speeds of another number of ranks are ignored."""
        self.world = world
        self.measures = settings.balance == "auto" and world.size > 1
        self.speeds = tuple(speeds) if self.measures and len(speeds) == world.size else ()
        self._seconds: list[float] = []  # per row, of each micro-batch since the last look
        self._rows = 0

    def rows_of_this_rank(self, rows: Sequence[int]) -> Sequence[int]:
        """This rank's share of a step's rows."""
        self._rows = max(self._rows, len(rows))  # an epoch's last step may be short
        return row_order.rank_share(rows, self.world.rank, self.world.size, self.speeds)

    def note_micro_batch(self, rows: int, seconds: float) -> None:
        """Record the seconds of a micro-batch on this rank, without the time that it waits for others."""
        if self.measures:
            self._seconds.append(seconds / rows)

    def update_split(self, state: TrainState, record: RunRecord) -> None:
        """Every UPDATES_BETWEEN_LOOKS updates: gather the ranks' speeds, and take another split where that is worth it.

        The speeds go into the state, and so into checkpoints: a resumed run goes on with the same split.
        """
        if self.measures and state.step % UPDATES_BETWEEN_LOOKS == 0:
            # the median: a first micro-batch of a shape compiles
            rows_per_second = 1 / statistics.median(self._seconds) if self._seconds else 0.0
            measured = collectives.gather_array(self.world, mx.array([rows_per_second], mx.float32))[:, 0].tolist()
            split = better_split(self.speeds, measured, self._rows)
            if split != self.speeds:
                counts = row_order.row_counts(self._rows, split) if split else "even"
                record.log(f"step {state.step}: rows by speed: {counts} of {self._rows}")
            self.speeds, self._seconds = split, []
        state.speeds = list(self.speeds)


def better_split(now: tuple[float, ...], measured: Sequence[float], rows: int) -> tuple[float, ...]:
    """The speeds to split by next: the measured ones, () for an even split, or still `now` (pure).

    measured: rows a second of each rank, 0 where it had none to show. rows: of a whole step.
    """
    if min(measured) <= 0:
        return now
    proposed = tuple(measured) if max(measured) > EQUAL_SPEEDS * min(measured) else ()
    seconds_now, seconds_then = (slowest_rank_seconds(rows, split, measured) for split in (now, proposed))
    return proposed if seconds_now > LEAST_GAIN * seconds_then else now


def slowest_rank_seconds(rows: int, split: tuple[float, ...], measured: Sequence[float]) -> float:
    """Seconds that the slowest rank needs for its share of a step (pure)."""
    counts = row_order.row_counts(rows, split or (1.0,) * len(measured))
    return max(count / speed for count, speed in zip(counts, measured, strict=True))

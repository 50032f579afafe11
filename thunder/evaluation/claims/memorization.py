"""Detect overfitting, test-set leakage and placeholder training from the table of a run's epochs (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from thunder.evaluation.claims.overlap import Overlap
from thunder.evaluation.claims.training_table import TrainingRow, TrainingTable

VerdictWord = Literal[
    "healthy", "overfit", "lag_only", "leak_suspected", "leak_confirmed", "invalid_training", "inconclusive"
]
SMALLEST_DIFFERENCE = 0.02  # nats; smaller differences of two losses do not count, whatever their standard errors
STANDARD_ERRORS = 3  # standard errors from which a difference counts
CONSTANT_LOSS = 1e-6  # relative change of a loss below which it is constant
EMPTY_EPOCH_RATE = 0.1  # of the median rate: a faster epoch did no work
SHORTEST_EPOCH = 0.5  # seconds; the time of shorter epochs is not reliable
MEMORIZED_LOSS_RATIO = 0.7  # of the validation loss: a lower probe loss is memorized
# the columns that the verdict healthy needs
REQUIRED_COLUMNS = {
    "running": "train_loss_running",
    "probe": "train_probe_loss",
    "val": "val_loss",
    "val_se": "val_se",
    "lr": "lr",
    "wall": "wall_s",
    "grad": "grad_norm",
    "wraps": "tokens_seen and the tokens of the corpus",
}
EXIT_CODES = {"leak_suspected": 3, "inconclusive": 3, "leak_confirmed": 4, "invalid_training": 4}


@dataclass(frozen=True)
class MemorizationSign:
    """One sign, with its number (F1 to F9) as the name, and the figures behind it."""

    name: str
    said: str


@dataclass(frozen=True)
class MemorizationVerdict:
    """The verdict on a table.

    wraps: positions in epochs of the table where passes over the rows began. best: epoch of the lowest validation loss.
    """

    verdict: VerdictWord
    flags: tuple[MemorizationSign, ...]
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    wraps: tuple[float, ...] = ()
    best: int | None = None
    passes: float | None = None
    skipped: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """0: healthy, lag_only or overfit; 3: leak_suspected or inconclusive; 4: leak_confirmed or invalid_training."""
        return EXIT_CODES.get(self.verdict, 0)

    @property
    def names(self) -> set[str]:
        """The names of the flags."""
        return {flag.name for flag in self.flags}


def judge_training(table: TrainingTable, overlap: Overlap | None = None) -> MemorizationVerdict:
    """Signs and verdict of a table. overlap: of training and validation rows, where it is known.

    A table with a missing column is never 'healthy': without a stronger sign it is 'inconclusive'.
    """
    rows = [row for row in table.rows if row.val is not None]
    missing = [name for key, name in REQUIRED_COLUMNS.items() if any(getattr(row, key) is None for row in table.rows)]
    missing = missing if table.rows else list(REQUIRED_COLUMNS.values())
    flags = [*_leak_signs(table.rows, table.before), *_overlap_signs(overlap), *_placeholder_sign(table.rows)]
    flags += [*_noise_sign(rows), *_repeated_row_signs(table), *_overfit_sign(rows, table.before)]
    skipped = () if overlap else ("F3 and F4 (rows in common): give --train and --val",)
    best = _best_row(rows) if rows else None
    return MemorizationVerdict(
        _verdict_word({flag.name for flag in flags}, overlap, missing),
        tuple(sorted(flags, key=lambda flag: flag.name)),
        tuple(missing),
        tuple(_notes(table.before)),
        tuple(round(place, 2) for place in epoch_boundaries(table.rows)),
        best.epoch if best else None,
        table.rows[-1].wraps if table.rows else None,
        skipped,
    )


def _verdict_word(flags: set[str], overlap: Overlap | None, missing: list[str]) -> VerdictWord:
    if "F5" in flags:
        return "invalid_training"
    if "F4" in flags:
        return "leak_confirmed"
    if flags & {"F1", "F3"}:
        return "leak_suspected"
    if "F8" in flags:
        return "overfit"
    if missing:
        return "inconclusive"
    return "lag_only" if "F2" in flags else "healthy"


def _chance_bound(*errors: float | None) -> float:
    """The difference of two losses that chance explains; an unknown standard error counts as 0."""
    return max(SMALLEST_DIFFERENCE, STANDARD_ERRORS * math.hypot(*(error or 0.0 for error in errors)))


def _leak_signs(every: Sequence[TrainingRow], before: TrainingRow | None) -> Iterable[MemorizationSign]:
    """F1: the validation loss is below that of training rows. F2: it is below the running training loss only."""
    rows = [row for row in every if row.val is not None]
    if rows and all(row.probe is not None for row in rows):
        yield from _compare_with_probe(rows, before)
    else:
        yield from _compare_with_running_loss(every)


def _compare_with_probe(rows: list[TrainingRow], before: TrainingRow | None) -> Iterable[MemorizationSign]:
    # validation rows that were easier before the first update may stay easier
    easier = min(0.0, _probe_gap(before)) if before else 0.0
    errors = (before.val_se, before.probe_se) if before and easier else ()
    worst = min(rows, key=lambda row: _probe_gap(row) + _chance_bound(row.val_se, row.probe_se))
    bound = _chance_bound(worst.val_se, worst.probe_se, *errors)
    if _probe_gap(worst) < easier - bound:
        text = f"epoch {worst.epoch}: val {worst.val:.4g} < probe {worst.probe:.4g}"
        yield MemorizationSign("F1", f"{text} by more than {bound - easier:.2g}")
    for row in (rows[-1], _best_row(rows)):
        if row.running is not None and _validation_loss(row) < row.running:
            yield MemorizationSign(
                "F2", f"epoch {row.epoch}: val {row.val:.4g} < running train {row.running:.4g}: running loss lags"
            )
            return


def _compare_with_running_loss(rows: Sequence[TrainingRow]) -> Iterable[MemorizationSign]:
    lags: list[MemorizationSign] = []
    earlier = None
    for row in rows:
        if row.running is None:
            continue
        moved = math.inf if earlier is None else abs(earlier - row.running)
        bound, below, earlier = _chance_bound(row.val_se) + moved, row.running - _validation_loss(row), row.running
        text = f"epoch {row.epoch}: val {row.val} < running train {row.running:.4g} by {below:.3g}"
        if below > bound:
            yield MemorizationSign("F1", f"{text}, more than {bound:.2g} (no probe)")
            return
        lags += [MemorizationSign("F2", f"{text}, within {bound:.2g}: it may lag")] if below > 0 else []
    yield from lags[-1:]


def _validation_loss(row: TrainingRow) -> float:
    return math.inf if row.val is None else row.val


def _best_row(rows: list[TrainingRow]) -> TrainingRow:
    return min(rows, key=_validation_loss)


def _probe_gap(row: TrainingRow) -> float:
    return row.val - row.probe if row.val is not None and row.probe is not None else 0.0


def _overlap_signs(overlap: Overlap | None) -> Iterable[MemorizationSign]:
    if overlap is None:
        return
    if overlap.rows:
        yield MemorizationSign(
            "F4", f"{overlap.rows} validation rows are among the training rows, such as {overlap.example}"
        )
    if overlap.texts or overlap.near or overlap.audios:
        text = f"{overlap.texts} texts of validation occur in training, {overlap.near} more share a passage"
        yield MemorizationSign("F3", f"{text}; {overlap.audios} recordings of validation occur in training")


def _placeholder_sign(rows: Iterable[TrainingRow]) -> Iterable[MemorizationSign]:
    """F5: a constant loss, an epoch that takes no time, or gradients of 0."""
    rows = list(rows)
    running = [row.running for row in rows if row.running is not None]
    faults = []
    if len(running) > 1 and max(running) - min(running) <= CONSTANT_LOSS * max(1.0, abs(running[0])):
        faults.append(f"the training loss is {running[0]:.6g} in all of {len(running)} epochs")
    faults += _first_empty_epoch(rows)
    grads = [row.grad for row in rows if row.grad is not None]
    if grads and max(grads) == 0:
        faults.append("every gradient is 0")
    if faults:
        yield MemorizationSign("F5", "; ".join(faults))


def _first_empty_epoch(rows: list[TrainingRow]) -> list[str]:
    """The first epoch that took far less time for each step than the others; short epochs are not compared."""
    walls = [row.wall for row in rows if row.wall is not None]
    if len(walls) < 3 or median(walls) < SHORTEST_EPOCH:
        return []
    steps = [
        (row.step or 0) - (before.step or 0) for before, row in zip([TrainingRow(0, 0), *rows], rows, strict=False)
    ]
    rates = [(row, row.wall / max(1, count)) for row, count in zip(rows, steps, strict=True) if row.wall is not None]
    usual = median(rate for _, rate in rates)
    quick = [row for row, rate in rates if rate < EMPTY_EPOCH_RATE * usual]
    return [f"epoch {row.epoch} took {row.wall:.2g} s; the median is {median(walls):.2g} s" for row in quick[:1]]


def _noise_sign(rows: list[TrainingRow]) -> Iterable[MemorizationSign]:
    """F6: the lead of the best epoch is below its standard error."""
    if len(rows) < 2:
        return
    best, next_best = sorted(rows, key=_validation_loss)[:2]
    gain = _validation_loss(next_best) - _validation_loss(best)
    if best.val_se is not None and best.val_se > gain:
        yield MemorizationSign(
            "F6", f"epoch {best.epoch} is best by {gain:.2g}, and the standard error is {best.val_se:.2g}"
        )


def _repeated_row_signs(table: TrainingTable) -> Iterable[MemorizationSign]:
    """F7: the best epoch starts another pass over the rows. F9: the run plans more than one pass."""
    rows = table.rows
    known = [row for row in rows if row.val is not None]
    if known:
        best = _best_row(known)
        place = list(rows).index(best)
        before = (rows[place - 1].wraps if place else 0.0) or 0.0
        if best.wraps is not None and (crossed := _ends_between(before, best.wraps)):
            yield MemorizationSign("F7", f"the best epoch, {best.epoch}, starts pass {crossed[-1] + 1} over the rows")
    if table.planned is not None and table.planned > 1:
        yield MemorizationSign("F9", f"the run passes over the rows {table.planned:.2f} times")


def _ends_between(before: float, after: float) -> list[int]:
    """The numbers of the passes that end between `before` and `after`, both excluded."""
    return list(range(math.floor(before) + 1, math.ceil(after)))


def epoch_boundaries(rows: Iterable[TrainingRow]) -> list[float]:
    """Where further passes over the rows begin, in epochs from the start of the table (4.53: within the fifth)."""
    positions, before = [], 0.0
    for number, row in enumerate(rows):
        if row.wraps is None:
            return []
        ends = range(max(1, math.ceil(before)), math.ceil(row.wraps))
        positions += [number + (end - before) / (row.wraps - before) for end in ends]
        before = row.wraps
    return positions


def _overfit_sign(rows: list[TrainingRow], before: TrainingRow | None) -> Iterable[MemorizationSign]:
    """F8: the probe loss is far below the validation loss, which rises: the sign of memorization."""
    if not rows or rows[-1].probe is None:
        return
    last, best = rows[-1], _best_row([before, *rows] if before else rows)
    risen = _validation_loss(last) - _validation_loss(best)
    if rows[-1].probe < MEMORIZED_LOSS_RATIO * _validation_loss(last) and risen > _chance_bound(
        last.val_se, best.val_se
    ):
        text = f"probe {last.probe:.4g}, val {last.val:.4g}"
        yield MemorizationSign("F8", f"{text}, {risen:.3g} above its best ({best.val:.4g} at step {best.step})")


def _notes(before: TrainingRow | None) -> Iterable[str]:
    if before is not None and _probe_gap(before) < -_chance_bound(before.val_se, before.probe_se):
        text = f"val {before.val:.4g}, probe {before.probe:.4g}"
        yield f"validation was easier than training before the first update: {text}"

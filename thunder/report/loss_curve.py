"""A run's loss from its metrics and incidents: which lines count, where it began again, where it was best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thunder.report.run_files import number_in, whole_in

Entry = Mapping[str, Any]
TRAIN, VALID = "training", "validation"


@dataclass(frozen=True)
class Point:
    """A loss at a step. attempt: counted from 1. lost: a later attempt went over this step again."""

    step: int
    loss: float
    of: str
    attempt: int
    lost: bool = False


@dataclass(frozen=True)
class Restart:
    """Where an attempt ended and the next one went on. step: the last one known; checkpoint: where it goes on."""

    step: int
    checkpoint: int | None
    what: str


@dataclass(frozen=True)
class Best:
    """The checkpoint that is kept as the best."""

    step: int
    loss: float


@dataclass(frozen=True)
class Course:
    """All of it, in the order of the file."""

    points: tuple[Point, ...]
    restarts: tuple[Restart, ...]
    best: Best | None


def course(metrics: Sequence[Entry], incidents: Sequence[Entry] = ()) -> Course:
    """Put metrics (lines of metrics.jsonl) and incidents together by their times.

    A step that does not go on from the one before is a restart as well, though no incident tells of it: a run that was
    stopped by hand and resumed.
    """
    waiting = sorted(incidents, key=lambda each: number_in(each, "time") or 0.0)
    points: list[Point] = []
    restarts: list[Restart] = []
    attempt, last = 1, -1
    for entry in metrics:
        step, time = whole_in(entry, "step"), number_in(entry, "time")
        if step is None:
            continue
        told = [each for each in waiting if time is not None and (number_in(each, "time") or 0.0) <= time]
        waiting = waiting[len(told) :]
        validated = "valid_loss" in entry
        # a validation stands at the step of the report before it
        back = step < last or (step == last and not validated and any(p.of == TRAIN and p.step == step for p in points))
        if told or back:
            restarts += [_restart(each, last) for each in told] or [Restart(max(last, 0), step, "resumed")]
            attempt += max(1, len(told))
            points = [_lost(point, step) for point in points]
        last = step
        for name, of in (("loss", TRAIN), ("valid_loss", VALID)):
            loss = number_in(entry, name)
            if loss is not None:
                points.append(Point(step, loss, of, attempt))
    restarts += [_restart(each, last) for each in waiting]
    return Course(tuple(points), tuple(restarts), _best(metrics, points))


def _lost(point: Point, step: int) -> Point:
    """A point that the next attempt, whose first line is of this step, goes over again."""
    return Point(point.step, point.loss, point.of, point.attempt, point.lost or point.step >= step)


def _restart(incident: Entry, last: int) -> Restart:
    """What an incident says, in one line."""
    where = f" on {incident['host']}" if incident.get("host") else ""
    rank = f", rank {incident['rank']}{where}" if whole_in(incident, "rank") is not None else where
    done = f": {incident['action']}" if incident.get("action") else ""
    step = whole_in(incident, "step")
    return Restart(
        max(last, 0) if step is None else step,
        whole_in(incident, "checkpoint"),
        f"{incident.get('kind') or 'incident'}{rank}{done}",
    )


def _best(metrics: Sequence[Entry], points: Sequence[Point]) -> Best | None:
    """What the last line that says so calls the best; else the lowest validation loss that counts."""
    for entry in reversed(metrics):
        step, loss = whole_in(entry, "best_step"), number_in(entry, "best_loss")
        if step is not None and loss is not None:
            return Best(step, loss)
    valid = [point for point in points if point.of == VALID and not point.lost]
    lowest = min(valid, key=lambda point: point.loss, default=None)
    return Best(lowest.step, lowest.loss) if lowest else None

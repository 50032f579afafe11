"""Build a run's loss curve from metrics and incidents: valid points, superseded points, restarts, best checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thunder.report.run_files import get_int, get_number

LogEntry = Mapping[str, Any]
TRAIN, VALID = "training", "validation"


@dataclass(frozen=True)
class LossPoint:
    """A loss at a step. attempt: counted from 1. lost: a later attempt repeated this step."""

    step: int
    loss: float
    of: str
    attempt: int
    lost: bool = False


@dataclass(frozen=True)
class RunRestart:
    """Where an attempt ended and the next one started. step: the last known one; checkpoint: where it resumed."""

    step: int
    checkpoint: int | None
    what: str


@dataclass(frozen=True)
class BestCheckpoint:
    """The checkpoint that is kept as the best."""

    step: int
    loss: float


@dataclass(frozen=True)
class LossCurve:
    """Points, restarts and best checkpoint, in the order of the file."""

    points: tuple[LossPoint, ...]
    restarts: tuple[RunRestart, ...]
    best: BestCheckpoint | None


def build_loss_curve(metrics: Sequence[LogEntry], incidents: Sequence[LogEntry] = ()) -> LossCurve:
    """Merge metrics (lines of metrics.jsonl) and incidents by their times.

    A step that does not follow the one before is a restart too, even without an incident: the run was stopped by hand
    and resumed.
    """
    waiting = sorted(incidents, key=lambda each: get_number(each, "time") or 0.0)
    points: list[LossPoint] = []
    restarts: list[RunRestart] = []
    attempt, last = 1, -1
    for entry in metrics:
        step, time = get_int(entry, "step"), get_number(entry, "time")
        if step is None:
            continue
        due = [each for each in waiting if time is not None and (get_number(each, "time") or 0.0) <= time]
        waiting = waiting[len(due) :]
        validated = "valid_loss" in entry
        # a validation has the step of the report before it
        back = step < last or (step == last and not validated and any(p.of == TRAIN and p.step == step for p in points))
        if due or back:
            restarts += [_incident_restart(each, last) for each in due] or [RunRestart(max(last, 0), step, "resumed")]
            attempt += max(1, len(due))
            points = [_mark_superseded(point, step) for point in points]
        last = step
        for name, series in (("loss", TRAIN), ("valid_loss", VALID)):
            loss = get_number(entry, name)
            if loss is not None:
                points.append(LossPoint(step, loss, series, attempt))
    restarts += [_incident_restart(each, last) for each in waiting]
    return LossCurve(tuple(points), tuple(restarts), _best_checkpoint(metrics, points))


def _mark_superseded(point: LossPoint, step: int) -> LossPoint:
    """Mark a point as lost if the next attempt, which starts at `step`, repeats it."""
    return LossPoint(point.step, point.loss, point.of, point.attempt, point.lost or point.step >= step)


def _incident_restart(incident: LogEntry, last: int) -> RunRestart:
    """Return an incident as a restart, described in one line."""
    where = f" on {incident['host']}" if incident.get("host") else ""
    rank = f", rank {incident['rank']}{where}" if get_int(incident, "rank") is not None else where
    done = f": {incident['action']}" if incident.get("action") else ""
    step = get_int(incident, "step")
    return RunRestart(
        max(last, 0) if step is None else step,
        get_int(incident, "checkpoint"),
        f"{incident.get('kind') or 'incident'}{rank}{done}",
    )


def _best_checkpoint(metrics: Sequence[LogEntry], points: Sequence[LossPoint]) -> BestCheckpoint | None:
    """Return the best checkpoint of the last line that names one; else the lowest valid validation loss."""
    for entry in reversed(metrics):
        step, loss = get_int(entry, "best_step"), get_number(entry, "best_loss")
        if step is not None and loss is not None:
            return BestCheckpoint(step, loss)
    valid = [point for point in points if point.of == VALID and not point.lost]
    lowest = min(valid, key=lambda point: point.loss, default=None)
    return BestCheckpoint(lowest.step, lowest.loss) if lowest else None

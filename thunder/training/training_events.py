"""The events of a training run and the `Callback` protocol that receives them; nothing here needs MLX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

EndReason = Literal["finished", "stopped_early", "interrupted"]


@dataclass(frozen=True)
class StartEvent:
    """The loop begins: `step` updates of `total_steps` are done already (more than 0 in a resumed run).

    micro_batch_size: rows that go through the model at once on each rank.
    """

    run_folder: Path
    step: int
    total_steps: int
    micro_batch_size: int


@dataclass(frozen=True)
class StepEvent:
    """One optimizer update is done.

    loss: mean per supervised token over all ranks. tokens: supervised tokens of this update over all ranks.
    grad_norm: L2 norm of the mean gradient before clipping. epoch: counted from 0.
    """

    step: int
    epoch: int
    loss: float
    tokens: int
    learning_rate: float
    grad_norm: float


@dataclass(frozen=True)
class ValidationEvent:
    """A validation is done. metrics: `valid_loss` and whatever else the task reports; best_*: including this one."""

    step: int
    epoch: int
    metrics: Mapping[str, float]
    best_loss: float
    best_step: int
    seconds: float


@dataclass(frozen=True)
class CheckpointEvent:
    """A checkpoint is on this host's disk."""

    step: int
    folder: Path


@dataclass(frozen=True)
class EndEvent:
    """The loop ended without an error, after `step` updates."""

    step: int
    reason: EndReason
    best_loss: float | None = None
    best_step: int | None = None


@dataclass(frozen=True)
class PointEvent:
    """A named point of a rank's work is reached: see POINTS.

    rows, seconds: of the micro-batch that was just computed. loss: [] the summed loss at `gradient`, an mx.array.
    """

    name: str
    step: int | None = None
    rows: int = 0
    seconds: float = 0.0
    loss: Any = field(default=None, compare=False)


POINTS = (
    "joining", "loading", "filling", "step", "computing", "gradient", "collective", "applied", "validating", "saving",
    "saved",
    "testing",
)  # fmt: skip
"""The names of all points, in the order in which a rank reaches them first."""


@runtime_checkable
class Callback(Protocol):
    """Receives the events of a training run. Subclass it and override the methods that you need.

    Inside a rank every method runs between two updates on the thread that trains, so its time adds to the step. An
    exception that a method raises ends the run.
    """

    def on_start(self, event: StartEvent) -> None:
        """Before the first update, and before a validation that is due there."""
        return

    def on_step(self, event: StepEvent) -> None:
        """After every update."""
        return

    def on_validation(self, event: ValidationEvent) -> None:
        """After every validation that was not cut short by a request to stop."""
        return

    def on_checkpoint(self, event: CheckpointEvent) -> None:
        """After a checkpoint was written; only on ranks that write one."""
        return

    def on_end(self, event: EndEvent) -> None:
        """After the last update, when its checkpoint is written; not called where the run failed."""
        return

    def on_point(self, event: PointEvent) -> None:
        """At every point of POINTS; for tools and tests, such as the fault injector, and only inside a rank."""
        return


class CallbackList(Callback):
    """Passes each event to several callbacks, in their order."""

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        self.callbacks = tuple(callbacks)
        # points are reached many times a step: only those who listen are called
        self._point_listeners = [each for each in self.callbacks if _listens_to_points(each)]

    def on_start(self, event: StartEvent) -> None:
        for each in self.callbacks:
            each.on_start(event)

    def on_step(self, event: StepEvent) -> None:
        for each in self.callbacks:
            each.on_step(event)

    def on_validation(self, event: ValidationEvent) -> None:
        for each in self.callbacks:
            each.on_validation(event)

    def on_checkpoint(self, event: CheckpointEvent) -> None:
        for each in self.callbacks:
            each.on_checkpoint(event)

    def on_end(self, event: EndEvent) -> None:
        for each in self.callbacks:
            each.on_end(event)

    def on_point(self, event: PointEvent) -> None:
        for each in self._point_listeners:
            each.on_point(event)

    def reach_point(
        self, name: str, *, step: int | None = None, rows: int = 0, seconds: float = 0.0, loss: Any = None
    ) -> None:
        """Send a PointEvent where anybody listens."""
        if self._point_listeners:
            self.on_point(PointEvent(name, step, rows, seconds, loss))


def _listens_to_points(callback: Callback) -> bool:
    return getattr(type(callback), "on_point", Callback.on_point) is not Callback.on_point


NO_CALLBACKS = CallbackList()


TrainEvent = StartEvent | StepEvent | ValidationEvent | CheckpointEvent | EndEvent


def send_event(event: TrainEvent, callback: Callback) -> None:
    """Call the callback's method for an event."""
    match event:
        case StartEvent():
            callback.on_start(event)
        case StepEvent():
            callback.on_step(event)
        case ValidationEvent():
            callback.on_validation(event)
        case CheckpointEvent():
            callback.on_checkpoint(event)
        case EndEvent():
            callback.on_end(event)


def from_record_event(event: Mapping[str, Any], folder: Path) -> TrainEvent | None:
    """The typed event for one that a rank's run record sent to the launcher; folder: the run's.

    None for the kinds that callbacks do not receive, and for an event that lacks a value.
    """
    try:
        return _typed_event(event, folder)
    except (KeyError, TypeError, ValueError):  # a host may run another version
        return None


def _typed_event(event: Mapping[str, Any], folder: Path) -> TrainEvent | None:
    kind = event.get("event")
    if kind == "phase" and event.get("phase") == "training" and "steps" in event:
        return StartEvent(folder, event["step"], event["steps"], event["micro_batch_size"])
    if kind == "step":
        return StepEvent(**{each.name: event[each.name] for each in fields(StepEvent)})
    if kind == "metrics" and "valid_loss" in event:
        metrics = {name: value for name, value in event.items() if name not in _BESIDE_METRICS}
        best_loss, best_step, seconds = (event[name] for name in ("best_loss", "best_step", "valid_seconds"))
        return ValidationEvent(event["step"], event["epoch"], metrics, best_loss, best_step, seconds)
    if kind == "checkpoint":
        return CheckpointEvent(event["step"], folder / "checkpoints" / f"step-{event['step']:07d}")
    if kind == "end":
        return EndEvent(**{each.name: event[each.name] for each in fields(EndEvent)})
    return None


_BESIDE_METRICS = {"event", "time", "step", "epoch", "best_loss", "best_step", "valid_seconds"}

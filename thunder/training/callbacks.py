"""The built-in callbacks of a run: epoch log, report, validation, checkpoint; each has its own period."""

from __future__ import annotations

import time
from dataclasses import asdict

import mlx.core as mx
import mlx.optimizers as optim

from thunder.training.checkpoints import checkpoint
from thunder.training.checkpoints.checkpoint import BEST
from thunder.training.state import TrainState
from thunder.training.train_context import TrainContext
from thunder.training.training_events import (
    Callback,
    CallbackList,
    CheckpointEvent,
    EndEvent,
    StartEvent,
    StepEvent,
    ValidationEvent,
)
from thunder.training.validation import validate
from thunder.units import parse_bytes

PROGRESS_EVERY = 1.0  # seconds between events of a validation on its way


class Periodic(Callback):
    """Does something every `period` updates, after the last one, and where a run is about to stop.

    state: the loop's own, which the built-in callbacks read and change.
    """

    def __init__(self, context: TrainContext, state: TrainState, iterations: int) -> None:
        settings = context.settings
        self.period, self.total = settings.updates(iterations), settings.total_updates
        self.context, self.state, self.record = context, state, context.record

    def on_period(self) -> bool:
        """Whether the state is at a multiple of the period or at the end of the run."""
        return self.state.step % self.period == 0 or self.state.step == self.total

    def is_due(self) -> bool:
        """Whether the state is at the period or the run is about to stop."""
        return self.on_period() or self.state.asked_to_stop or bool(self.state.stopped_early)


class Report(Periodic):
    """Mean loss since the last report, speed over all ranks, time left, memory; an event at every step."""

    def __init__(self, context: TrainContext, state: TrainState) -> None:
        super().__init__(context, state, context.settings.steps_per_report)
        self._reset()
        self.first_step: int | None = None
        self.busy = 0.0
        self.mark = time.perf_counter()
        threshold = context.settings.clear_cache_threshold
        self.cache_limit = None if threshold is None else parse_bytes(threshold)

    def _reset(self) -> None:
        self.loss, self.tokens, self.seconds, self.steps = 0.0, 0, 0.0, 0

    def resume_clock(self) -> None:
        """Leave the time since the last step out of the speed: it went into something else."""
        self.mark = time.perf_counter()

    def on_start(self, event: StartEvent) -> None:
        """Start the clock."""
        self.resume_clock()

    def on_step(self, event: StepEvent) -> None:
        """Count the step; report if due."""
        now = time.perf_counter()
        self.first_step = event.step if self.first_step is None else self.first_step
        self.seconds, self.steps = self.seconds + now - self.mark, self.steps + 1
        self.busy += now - self.mark if event.step != self.first_step else 0.0
        self.loss += event.loss * event.tokens
        self.tokens += event.tokens
        self.mark = now
        self.record.event("step", **asdict(event))
        if self.cache_limit is not None and mx.get_cache_memory() > self.cache_limit:
            mx.clear_cache()
        if self.is_due():
            self._report(event, self.first_step)

    def on_end(self, event: EndEvent) -> None:
        """Tell the launcher how the loop ended."""
        self.record.event("end", **asdict(event))

    def _report(self, event: StepEvent, first_step: int) -> None:
        # The first step compiles; it would spoil the forecast.
        timed = event.step - first_step
        per_step = self.busy / timed if timed else self.seconds / self.steps
        self.record.metrics(
            step=event.step,
            epoch=event.epoch,
            loss=self.loss / self.tokens,
            learning_rate=event.learning_rate,
            grad_norm=event.grad_norm,
            tokens=self.state.tokens,
            tokens_per_second=self.tokens / self.seconds,
            seconds_per_step=per_step,
            seconds_left=per_step * (self.total - event.step),
            peak_bytes=mx.get_peak_memory(),
        )
        # Metal's cache of freed buffers only grows where shapes vary
        mx.clear_cache()
        self._reset()


class EpochLog(Periodic):
    """A line of the log at the first step of each epoch after the first, where the settings ask for it.

    Rows that are held out for validation and test are in no epoch.
    """

    def __init__(self, context: TrainContext, state: TrainState) -> None:
        super().__init__(context, state, 1)
        self.enabled, self.epoch = context.settings.logs_epochs, 0

    def on_start(self, event: StartEvent) -> None:
        """The epoch that a resumed run is in is logged already."""
        self.epoch = self.state.epoch

    def on_step(self, event: StepEvent) -> None:
        """Log an epoch that begins; epochs are counted from 1 for people."""
        if self.enabled and event.epoch > self.epoch:
            self.record.log(f"step {event.step}: epoch {event.epoch + 1}")
        self.epoch = event.epoch


class Validator(Periodic):
    """Loss over the whole validation set; keeps the best weights beside the last; early stopping."""

    def __init__(self, context: TrainContext, state: TrainState, clock: Report) -> None:
        super().__init__(context, state, context.settings.steps_per_eval)
        self.clock, self.patience = clock, context.settings.patience
        self._told = 0.0

    def on_start(self, event: StartEvent) -> None:
        """Validate before the first step, and in a resumed run where the stop came before a validation that was due."""
        self._validate_if_due()

    def on_step(self, event: StepEvent) -> None:
        """Validate on the period."""
        self._validate_if_due()

    def _validate_if_due(self) -> None:
        """At most once a step. A run that was asked to stop does not wait for it; resumed, it validates first."""
        state = self.state
        due = bool(self.context.task.groups) and self.on_period() and state.validated_at != state.step
        if due and not state.asked_to_stop and not state.stopped_early:
            self._validate()

    def _validate(self) -> None:
        state, record, task = self.state, self.record, self.context.task
        record.phase("validating", step=state.step)
        started = time.perf_counter()
        self.context.callbacks.reach_point("validating", step=state.step)
        values = validate(task, self.context.world, self.context.stop_requested, self._on_batch)
        if values is None:
            state.asked_to_stop = True
            return
        best_loss, best_step = self._note(values)
        seconds = time.perf_counter() - started
        record.metrics(
            step=state.step,
            epoch=state.epoch,
            **values,
            best_loss=best_loss,
            best_step=best_step,
            valid_seconds=seconds,
        )
        record.phase("training", step=state.step)
        self.context.callbacks.on_validation(
            ValidationEvent(state.step, state.epoch, values, best_loss, best_step, seconds)
        )
        self.clock.resume_clock()

    def _on_batch(self, done: int, total: int) -> None:
        """Count progress, and tell the launcher about once a second how far the validation is."""
        now = time.perf_counter()
        if now - self._told < PROGRESS_EVERY and done != total:
            self.record.progress()
            return
        self._told = now
        self.record.event("validate", done=done, total=total, step=self.state.step)

    def _note(self, values: dict[str, float]) -> tuple[float, int]:
        """Put a validation into the state; save the weights where they are the best so far, else count patience."""
        state, loss = self.state, values["valid_loss"]
        state.validation, state.validated_at = values, state.step
        if state.best_loss is None or state.best_step is None or loss < state.best_loss:
            state.best_loss, state.best_step, state.validations_without_gain = loss, state.step, 0
            if self.record.is_primary:
                self.context.task.save(self.record.folder / self.context.task.output / BEST)
        else:
            state.validations_without_gain += 1
            if self.patience and state.validations_without_gain >= self.patience:
                state.stopped_early = f"no better validation loss in {self.patience} validations"
        return state.best_loss, state.best_step


class Saver(Periodic):
    """A checkpoint to continue from, and the newest weights for the user; one rank on each host writes."""

    def __init__(self, context: TrainContext, state: TrainState, optimizer: optim.Optimizer, clock: Report) -> None:
        super().__init__(context, state, context.settings.save_every)
        self.optimizer, self.clock = optimizer, clock

    def on_step(self, event: StepEvent) -> None:
        """Save on the period and where the run stops."""
        if self.is_due():
            self._save(event.step)

    def _save(self, step: int) -> None:
        task, record, callbacks = self.context.task, self.record, self.context.callbacks
        record.phase("saving", step=step)
        if record.is_primary:
            output = record.folder / task.output
            folder = checkpoint.save_checkpoint(
                record.checkpoints, task, self.optimizer, self.state,
                fingerprint=self.context.fingerprint, ranks=self.context.planned_ranks, best=output / BEST,
                on_weights_written=lambda: callbacks.reach_point("saving", step=step),
            )  # fmt: skip
            task.save(output)
            record.event("checkpoint", step=step)
            callbacks.on_checkpoint(CheckpointEvent(step, folder))
        callbacks.reach_point("saved", step=step)
        record.phase("training", step=step)
        self.clock.resume_clock()


def standard_callbacks(context: TrainContext, optimizer: optim.Optimizer, state: TrainState) -> CallbackList:
    """Epoch log, report, the caller's callbacks, validator, saver.

    A caller's callback hears of a step before that step's validation and checkpoint. The saver is last, so that a
    checkpoint holds the result of its step's validation.
    """
    report = Report(context, state)
    return CallbackList(
        [
            EpochLog(context, state),
            report,
            context.callbacks,
            Validator(context, state, report),
            Saver(context, state, optimizer, report),
        ]
    )

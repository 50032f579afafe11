"""What happens beside the steps, each with its own period: reports, validations, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping

import mlx.core as mx
import mlx.optimizers as optim

from thunder.parallel import collectives
from thunder.parallel.world import World
from thunder.runs.records.run_record import RunRecord
from thunder.training import faults
from thunder.training.checkpoints import checkpoint
from thunder.training.checkpoints.checkpoint import BEST
from thunder.training.loop_settings import LoopSettings
from thunder.training.state import State
from thunder.training.task import Batch, Task


class Hook:
    """Something done every `period` updates, after the last one, and where a run is about to stop."""

    def __init__(self, period: int, total: int) -> None:
        self.period, self.total = period, total

    def on_period(self, state: State) -> bool:
        """Whether the state stands at a multiple of the period or at the end of the run."""
        return state.step % self.period == 0 or state.step == self.total

    def maybe(self, state: State, *, at_start: bool = False) -> None:
        """Run if due; at the start nothing is, unless a subclass says so."""
        if not at_start and (self.on_period(state) or state.asked_to_stop or bool(state.stopped_early)):
            self.run(state)

    def run(self, state: State) -> None:
        """Do the thing."""
        raise NotImplementedError


class Report(Hook):
    """Mean loss since the last report, speed over all ranks, time left, memory; a heartbeat at every step."""

    def __init__(self, settings: LoopSettings, record: RunRecord) -> None:
        super().__init__(settings.updates(settings.steps_per_report), settings.total_updates)
        self.record = record
        self._reset()
        self.first_step: int | None = None
        self.busy = 0.0
        self.mark = time.perf_counter()

    def _reset(self) -> None:
        self.loss, self.tokens, self.seconds, self.steps = 0.0, 0, 0.0, 0

    def resume_clock(self) -> None:
        """Leave the time since the last step out of the speed: it went into something else."""
        self.mark = time.perf_counter()

    def maybe(self, state: State, *, at_start: bool = False) -> None:
        """Count the step; report if due."""
        if at_start:
            self.resume_clock()
            return
        now = time.perf_counter()
        assert state.result is not None
        self.first_step = state.step if self.first_step is None else self.first_step
        self.seconds, self.steps = self.seconds + now - self.mark, self.steps + 1
        self.busy += now - self.mark if state.step != self.first_step else 0.0
        self.loss += state.result.loss * state.result.tokens
        self.tokens += state.result.tokens
        self.mark = now
        self.record.event("step", step=state.step)
        super().maybe(state)

    def run(self, state: State) -> None:
        assert state.result is not None and self.first_step is not None
        # The first step compiles; it would spoil the forecast.
        timed = state.step - self.first_step
        per_step = self.busy / timed if timed else self.seconds / self.steps
        self.record.metrics(
            step=state.step,
            epoch=state.epoch,
            loss=self.loss / self.tokens,
            learning_rate=state.result.learning_rate,
            grad_norm=state.result.grad_norm,
            tokens=state.tokens,
            tokens_per_second=self.tokens / self.seconds,
            seconds_per_step=per_step,
            seconds_left=per_step * (self.total - state.step),
            peak_bytes=mx.get_peak_memory(),
        )
        # Metal's cache of freed buffers only grows where shapes vary
        mx.clear_cache()
        self._reset()


class Wraps(Hook):
    """A line of the log where the rows begin anew; rows that are held out are none of them, in any pass."""

    def __init__(self, settings: LoopSettings, record: RunRecord) -> None:
        super().__init__(1, settings.total_updates)
        self.record, self.wanted, self.epoch = record, settings.logs_wraps, 0

    def maybe(self, state: State, *, at_start: bool = False) -> None:
        """Tell of a pass that begins; one that a resumed run is in has been told of."""
        if self.wanted and not at_start and state.epoch > self.epoch:
            self.record.log(f"step {state.step}: the rows begin anew, pass {state.epoch + 1}")
        self.epoch = state.epoch


class Validate(Hook):
    """Loss over the whole validation set; keeps the best weights beside the last; early stopping."""

    def __init__(
        self,
        task: Task,
        settings: LoopSettings,
        world: World,
        record: RunRecord,
        clock: Report,
        stop_requested: Callable[[], bool],
    ) -> None:
        super().__init__(settings.updates(settings.steps_per_eval), settings.total_updates)
        self.task, self.patience, self.world, self.record, self.clock = task, settings.patience, world, record, clock
        self.stop_requested = stop_requested

    def maybe(self, state: State, *, at_start: bool = False) -> None:
        """Validate before the first step and on the period, once a step.

        A run that was asked to stop does not wait for it; when it goes on, what was due comes first.
        """
        due = bool(self.task.groups) and self.on_period(state) and state.validated_at != state.step
        if due and not state.asked_to_stop and not state.stopped_early:
            self.run(state)

    def run(self, state: State) -> None:
        self.record.phase("validating", step=state.step)
        started = time.perf_counter()
        faults.at("validating", step=state.step)
        values = validate(self.task, self.world, self.stop_requested, self.record.progress)
        if values is None:
            state.asked_to_stop = True
            return
        state.validation, state.validated_at = values, state.step
        better = state.best_loss is None or values["valid_loss"] < state.best_loss
        if better:
            state.best_loss, state.best_step, state.validations_without_gain = values["valid_loss"], state.step, 0
            if self.record.is_primary:
                self.task.save(self.record.folder / self.task.output / BEST)
        else:
            state.validations_without_gain += 1
            if self.patience and state.validations_without_gain >= self.patience:
                state.stopped_early = f"no better validation loss in {self.patience} validations"
        self.record.metrics(
            step=state.step,
            epoch=state.epoch,
            **values,
            best_loss=state.best_loss,
            best_step=state.best_step,
            valid_seconds=time.perf_counter() - started,
        )
        self.record.phase("training", step=state.step)
        self.clock.resume_clock()


class Save(Hook):
    """A checkpoint to continue from, and the newest weights for the user; one rank on each host writes."""

    def __init__(
        self,
        task: Task,
        optimizer: optim.Optimizer,
        settings: LoopSettings,
        record: RunRecord,
        clock: Report,
        fingerprint: Mapping[str, str],
        ranks: int,
    ) -> None:
        super().__init__(settings.updates(settings.save_every), settings.total_updates)
        self.task, self.optimizer, self.record, self.clock = task, optimizer, record, clock
        self.fingerprint, self.ranks = fingerprint, ranks

    def run(self, state: State) -> None:
        self.record.phase("saving", step=state.step)
        if self.record.is_primary:
            output = self.record.folder / self.task.output
            checkpoint.save(
                self.record.checkpoints, self.task, self.optimizer, state,
                fingerprint=self.fingerprint, ranks=self.ranks, best=output / BEST,
            )  # fmt: skip
            self.task.save(output)
            self.record.event("checkpoint", step=state.step)
        faults.at("saved", step=state.step)
        self.record.phase("training", step=state.step)
        self.clock.resume_clock()


def standard_hooks(
    task: Task,
    optimizer: optim.Optimizer,
    settings: LoopSettings,
    world: World,
    record: RunRecord,
    stop_requested: Callable[[], bool],
    fingerprint: Mapping[str, str],
    ranks: int,
) -> list[Hook]:
    """Wraps, report, validate, save: the last in this order, so that a checkpoint holds what its validation found."""
    report = Report(settings, record)
    return [
        Wraps(settings, record),
        report,
        Validate(task, settings, world, record, report, stop_requested),
        Save(task, optimizer, settings, record, report, fingerprint, ranks),
    ]


def validate(
    task: Task, world: World, stop_requested: Callable[[], bool], on_batch: Callable[[], None] = lambda: None
) -> dict[str, float] | None:
    """Loss over the whole validation set, sharded over ranks and weighted by tokens; the same numbers on every rank.

    `valid_se` is the standard error of `valid_loss`. A task with a `probe` has `probe_loss` and `probe_se` beside it:
    some rows that are trained on, scored in the same way, by which a leak is told from a lag.
    None, on every rank, where any rank was asked to stop on the way.
    """
    sums = {group: Sums() for group in (*task.groups, _PROBE)}
    stopped = 0.0
    task.model.eval()
    for group, batch in _scored(task, world):
        if stop_requested():
            stopped = 1.0
            break
        loss_sum = task.loss(task.model, *batch.arrays)
        mx.eval(loss_sum)
        sums[group].add(loss_sum.item(), batch.tokens)
        on_batch()
    task.model.train()
    *flat, stops = collectives.sum_numbers(
        world, [*(number for each in sums.values() for number in each.flat), stopped]
    )
    if stops:
        return None
    width = len(Sums().flat)
    whole = {group: Sums(flat[width * i : width * (i + 1)]) for i, group in enumerate(sums)}
    values = task.validation_metrics({group: (whole[group].loss, whole[group].tokens) for group in task.groups})
    if whole[_PROBE].tokens:
        values["probe_loss"] = whole[_PROBE].loss / whole[_PROBE].tokens
    errors = {"valid_se": whole[task.groups[0]].error, "probe_se": whole[_PROBE].error}
    return values | {name: error for name, error in errors.items() if error is not None}


_PROBE = "probe"


def _scored(task: Task, world: World) -> Iterator[tuple[str, Batch]]:
    yield from task.validation(world.rank, world.size)
    probe = getattr(task, "probe", None)
    yield from ((_PROBE, batch) for batch in (probe(world.rank, world.size) if probe else ()))


class Sums:
    """What batches add up to, and how far their mean loss can be trusted."""

    def __init__(self, flat: list[float] | None = None) -> None:
        self.flat = flat or [0.0] * 6  # batches, loss, tokens, loss squared, loss by tokens, tokens squared

    def add(self, loss: float, tokens: int) -> None:
        """Count a batch: its loss summed over its tokens."""
        new = (1.0, loss, tokens, loss * loss, loss * tokens, tokens * tokens)
        self.flat = [old + more for old, more in zip(self.flat, new, strict=True)]

    @property
    def loss(self) -> float:
        """The loss, summed."""
        return self.flat[1]

    @property
    def tokens(self) -> float:
        """The supervised tokens."""
        return self.flat[2]

    @property
    def error(self) -> float | None:
        """Standard error of the mean loss per token, a ratio of sums over batches; None of fewer than two batches.

        Source: the linearised variance of a ratio estimator (Cochran, Sampling Techniques, 3rd ed., section 2.11).
        """
        batches, loss, tokens, squared, crossed, sizes = self.flat
        if batches < 2 or not tokens:
            return None
        mean = loss / tokens
        spread = max(0.0, squared - 2 * mean * crossed + mean * mean * sizes)
        return math.sqrt(spread * batches / (batches - 1)) / tokens

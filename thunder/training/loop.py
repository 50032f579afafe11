"""The training loop: the page to read first."""

from __future__ import annotations

import mlx.optimizers as optim

from thunder.parallel import row_order
from thunder.training.balance import Balance
from thunder.training.callbacks import standard_callbacks
from thunder.training.checkpoints import checkpoint, sync_checkpoints
from thunder.training.state import TrainState
from thunder.training.step import make_optimizer, make_step
from thunder.training.train_context import TrainContext
from thunder.training.training_events import EndEvent, StartEvent, StepEvent


def train_loop(context: TrainContext) -> TrainState:
    """Train to the end, to early stopping, or until any rank is asked to stop; each of these leaves a checkpoint.

    All ranks call it together. It goes on from the newest checkpoint in the run's folder, where there is one.

    Raises ArtifactError where that checkpoint has another fingerprint, RunFailed where a loss is not finite.
    """
    task, settings, record = context.task, context.settings, context.record
    optimizer = make_optimizer(settings)
    state = _initial_state(context, optimizer)
    balance = Balance(context.world, settings, state.speeds)
    step = make_step(task, optimizer, settings, context.world, context.rows_at_once, balance, context.callbacks)
    callbacks = standard_callbacks(context, optimizer, state)
    total = settings.total_updates
    record.phase("training", step=state.step, steps=total, micro_batch_size=context.rows_at_once)
    callbacks.on_start(StartEvent(record.folder, state.step, total, context.rows_at_once))
    order = {"after": state.step, "until": total, "lengths": task.lengths}
    for plan in row_order.plan_steps(task.rows, context.rows_per_update, settings.seed, **order):
        if state.asked_to_stop or state.stopped_early:
            break
        state.result = result = step(plan, context.stop_requested())
        state.step, state.epoch, state.tokens = plan.number, plan.epoch, state.tokens + result.tokens
        state.asked_to_stop = result.stop
        balance.update_split(state, record)
        callbacks.on_step(
            StepEvent(state.step, state.epoch, result.loss, result.tokens, result.learning_rate, result.grad_norm)
        )
    callbacks.on_end(_end_event(state))
    return state


def _initial_state(context: TrainContext, optimizer: optim.Optimizer) -> TrainState:
    """The state of the one checkpoint that all ranks continue from, or that of a new run; loads weights and optimizer.

    The primary process of a host also restores the files that users take away.
    """
    record, task = context.record, context.task
    folder = sync_checkpoints.sync_checkpoints(
        context.world, record,
        fingerprint=context.fingerprint, ranks=context.planned_ranks, force=context.overrides.force,
    )  # fmt: skip
    if folder is None:
        return TrainState()
    state = checkpoint.restore_checkpoint(folder, task, optimizer, TrainState)
    if record.is_primary:
        checkpoint.restore_best_weights(folder, record.folder / task.output / checkpoint.BEST)
        task.save(record.folder / task.output)
    return state


def _end_event(state: TrainState) -> EndEvent:
    reason = "interrupted" if state.asked_to_stop else "stopped_early" if state.stopped_early else "finished"
    return EndEvent(state.step, reason, state.best_loss, state.best_step)

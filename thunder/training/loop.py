"""The training loop: the page to read first."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import mlx.optimizers as optim

from thunder.parallel import row_order
from thunder.parallel.world import World
from thunder.runs.records.run_record import RunRecord
from thunder.training import faults
from thunder.training.balance import Balance
from thunder.training.checkpoints import checkpoint, sync_checkpoints
from thunder.training.hooks import Hook, standard_hooks
from thunder.training.loop_settings import AS_PLANNED, Circumstances, LoopSettings
from thunder.training.state import State
from thunder.training.step import make_optimizer, make_step
from thunder.training.task import Task


def train(
    task: Task,
    settings: LoopSettings,
    world: World,
    record: RunRecord,
    stop_requested: Callable[[], bool] = lambda: False,
    *,
    fingerprint: Mapping[str, str] | None = None,
    circumstances: Circumstances = AS_PLANNED,
) -> State:
    """Train to the end, to early stopping, or until any rank is asked to stop; every way out leaves a checkpoint.

    fingerprint: name -> digest of each input of the run; a checkpoint with another fingerprint is refused.
    """
    ranks, rows_at_once = circumstances.ranks(world.size), circumstances.rows_at_once(settings)
    faults.situate(world, rows_at_once)
    optimizer = make_optimizer(settings)
    state = _start(task, optimizer, world, record, fingerprint or {}, ranks, circumstances.force)
    balance = Balance(world, settings, state.speeds)
    step = make_step(task, optimizer, settings, world, rows_at_once, balance)
    hooks = standard_hooks(task, optimizer, settings, world, record, stop_requested, fingerprint or {}, ranks)
    global_batch = settings.batch_size * ranks * settings.grad_accumulation_steps
    record.phase("training", step=state.step, steps=settings.total_updates)
    fire(hooks, state, at_start=True)
    order = {"after": state.step, "until": settings.total_updates, "lengths": task.lengths}
    for plan in row_order.steps(task.rows, global_batch, settings.seed, **order):
        if state.asked_to_stop or state.stopped_early:
            break
        state.result = step(plan, stop_requested())
        state.step, state.epoch, state.tokens = plan.number, plan.epoch, state.tokens + state.result.tokens
        state.asked_to_stop = state.result.stop
        balance.renew(state, record)
        fire(hooks, state)
    return state


def _start(
    task: Task,
    optimizer: optim.Optimizer,
    world: World,
    record: RunRecord,
    fingerprint: Mapping[str, str],
    ranks: int,
    force: bool,
) -> State:
    """Where the ranks go on from: one checkpoint on every host, what users take away included, or the beginning."""
    folder = sync_checkpoints.sync_checkpoints(world, record, fingerprint=fingerprint, ranks=ranks, force=force)
    if folder is None:
        return State()
    state = checkpoint.restore(folder, task, optimizer, State)
    if record.is_primary:
        checkpoint.put_back_best(folder, record.folder / task.output / checkpoint.BEST)
        task.save(record.folder / task.output)
    return state


def fire(hooks: list[Hook], state: State, at_start: bool = False) -> None:
    """Run each hook that is due; the order is the list's."""
    for hook in hooks:
        hook.maybe(state, at_start=at_start)

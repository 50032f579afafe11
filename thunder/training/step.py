"""One optimizer update: gradients of this rank's rows, summed over ranks by supervised tokens, clipped, applied."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_map

from thunder.errors import RunFailed
from thunder.parallel import collectives, row_order
from thunder.parallel.world import World
from thunder.training.balance import Balance
from thunder.training.loop_settings import LoopSettings
from thunder.training.schedule import learning_rate
from thunder.training.state import StepResult
from thunder.training.task import Batch, Task
from thunder.training.training_events import NO_CALLBACKS, CallbackList


def make_optimizer(settings: LoopSettings) -> optim.Optimizer:
    """AdamW as in mlx_lm, with bias correction where the settings have it; its rate is set before every update."""
    return optim.AdamW(
        learning_rate=settings.learning_rate,
        betas=list(settings.adam_betas),
        eps=settings.adam_eps,
        weight_decay=settings.weight_decay,
        bias_correction=settings.bias_correction,
    )


def make_gradient(task: Task) -> Callable[[Batch], tuple[mx.array, dict[str, Any]]]:
    """A function, compiled if the task can be: Batch -> (summed loss [], its gradient), evaluated before it returns.

    Evaluated here, so that no GPU command buffer is left that a collective would have to wait for.
    """
    model = task.model
    value_and_grad = nn.value_and_grad(model, lambda *arrays: task.loss(model, *arrays))

    # value_and_grad leaves its traced parameters in the model; naming the state as an output puts the arrays back
    captured = [model.state, mx.random.state]

    compile = partial(mx.compile, inputs=captured, outputs=captured) if task.compiled else lambda function: function

    @compile
    def run(*arrays: mx.array) -> tuple[mx.array, dict[str, Any]]:
        return value_and_grad(*arrays)

    def gradient(batch: Batch) -> tuple[mx.array, dict[str, Any]]:
        loss_sum, gradients = run(*batch.arrays)
        mx.eval(loss_sum, gradients)
        return loss_sum, gradients

    return gradient


def make_step(
    task: Task,
    optimizer: optim.Optimizer,
    settings: LoopSettings,
    world: World,
    rows_at_once: int = 0,
    balance: Balance | None = None,
    callbacks: CallbackList = NO_CALLBACKS,
) -> Callable[[row_order.StepPlan, bool], StepResult]:
    """The function that does one update, given the step's rows over ranks and whether this rank was asked to stop.

    rows_at_once: how a rank's share is cut, 0 for the settings' batch size; balance: which rows are whose, None for an
    even split. The update is the same but for rounding. callbacks: told of the points inside the step.
    """
    balance = balance or Balance(world, settings, ())
    rows_at_once = rows_at_once or settings.batch_size
    model, gradient = task.model, make_gradient(task)
    update = make_update(model, optimizer, settings.max_grad_norm)
    nothing = tree_map(mx.zeros_like, model.trainable_parameters())
    mx.eval(nothing)

    def step(plan: row_order.StepPlan, stop: bool) -> StepResult:
        callbacks.reach_point("step", step=plan.number)
        # Seeded per step and rank: dropout differs between ranks, and resuming needs no random state.
        mx.random.seed(((settings.seed * 1_000_003 + plan.number) * 64 + world.rank) % 2**63)
        loss_sum, gradients, tokens = mx.array(0.0), nothing, 0
        for count, rows in enumerate(row_order.micro_batches(balance.rows_of_this_rank(plan.rows), rows_at_once)):
            begun = time.perf_counter()
            batch = task.batch(rows, plan.epoch)
            loss, grads = gradient(batch)
            loss_sum, gradients = (loss, grads) if count == 0 else (loss_sum + loss, tree_map(mx.add, gradients, grads))
            mx.eval(loss_sum, gradients)
            tokens += batch.tokens
            seconds = time.perf_counter() - begun
            callbacks.reach_point("computing", step=plan.number, rows=len(rows), seconds=seconds)
            balance.note_micro_batch(len(rows), time.perf_counter() - begun)
        callbacks.reach_point("gradient", step=plan.number, loss=loss_sum)
        callbacks.reach_point("collective", step=plan.number)
        summed = collectives.sum_gradients(
            world, gradients, step=plan.number, loss_sum=loss_sum, tokens=tokens, stop=stop
        )
        if not summed.finite:
            raise RunFailed(
                f"step {plan.number}: the loss or a gradient is not a finite number",
                fix="lower --learning-rate, or look at the rows of this step",
            )
        rate = learning_rate(plan.number, settings)
        norm = update(summed, rate)
        callbacks.reach_point("applied", step=plan.number)
        return StepResult(summed.loss_sum / summed.tokens, summed.tokens, rate, norm, summed.stop)

    return step


def make_update(
    model: nn.Module, optimizer: optim.Optimizer, max_norm: float
) -> Callable[[collectives.ReducedGradients, float], float]:
    """A compiled function: (summed gradients, rate) -> their mean per token, clipped to max_norm (0: never), applied.

    It returns the norm before clipping. One compiled step in the place of a dozen operations on each of many small
    matrices.
    """
    if set(optimizer.state) <= {"step", "learning_rate"}:  # a restored one has its moments
        optimizer.init(model.trainable_parameters())
    state = [model.state, optimizer.state]

    @partial(mx.compile, inputs=state, outputs=state)
    def compiled(gradients: dict[str, Any], tokens: mx.array) -> mx.array:
        norm = mx.sqrt(sum(mx.square(array).sum() for _, array in tree_flatten(gradients))) / tokens
        scale = mx.where(norm > max_norm, max_norm / norm, 1.0) / tokens if max_norm else 1.0 / tokens
        kinds = model.trainable_parameters()
        optimizer.update(model, tree_map(lambda array, kind: (array * scale).astype(kind.dtype), gradients, kinds))
        return norm

    def update(summed: collectives.ReducedGradients, rate: float) -> float:
        optimizer.learning_rate = rate
        norm = compiled(summed.tree, mx.array(float(summed.tokens)))
        mx.eval(norm, state)
        return norm.item()

    return update

"""Checkpoints of a small task: a task and an optimizer after a few steps, and three saved steps in a folder."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from thunder.lora.lora_settings import LoraSettings
from thunder.training.checkpoints import checkpoint
from thunder.training.state import TrainState
from thunder.training.step import make_optimizer

FINGERPRINT = {"configuration": "c" * 64, "data": "d" * 64, "base weights": "b" * 64}

FILES = [checkpoint.WEIGHTS, checkpoint.OPTIMIZER, checkpoint.STATE, "best/adapters.safetensors", checkpoint.MANIFEST]


class SmallTask:
    """As much of a task as a checkpoint needs."""

    def __init__(self, width=4, seed=1):
        mx.random.seed(seed)
        self.model = nn.Linear(width, 3)


def trained(steps=2, width=4, seed=1):
    task, optimizer = SmallTask(width, seed), make_optimizer(LoraSettings(learning_rate=0.1))
    for _ in range(steps):
        gradients = nn.value_and_grad(task.model, lambda model: model(mx.ones((1, width))).sum())(task.model)[1]
        optimizer.update(task.model, gradients)
    mx.eval(task.model.parameters(), optimizer.state)
    return task, optimizer


def state_of(step):
    return TrainState(step=step, tokens=9, best_loss=0.5, best_step=2, validation={"valid_loss": 1.0})


def save_checkpoints(tmp_path):
    """Steps 2, 4 and 6 saved to a folder that keeps two; returns (the folder, task, optimizer)."""
    task, optimizer = trained()
    best = tmp_path / "output" / "best"
    best.mkdir(parents=True)
    mx.save_safetensors(str(best / "adapters.safetensors"), {"a": mx.arange(5)})
    for step in (2, 4, 6):
        checkpoint.save_checkpoint(
            tmp_path / "kept", task, optimizer, state_of(step), fingerprint=FINGERPRINT, ranks=2, best=best
        )
    return tmp_path / "kept", task, optimizer


def newest(root, said=None, **more):
    return checkpoint.newest_checkpoint(
        root, [].append if said is None else said.append, **{"fingerprint": FINGERPRINT, "ranks": 2} | more
    ).name

"""Checkpoints: whole or absent, the newest whole one is used, damage is named."""

from __future__ import annotations

import shutil

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from thunder.errors import ArtifactError
from thunder.lora.settings import LoraSettings
from thunder.training import checkpoint
from thunder.training.loop import State
from thunder.training.step import make_optimizer


class SmallTask:
    """As much of a task as a checkpoint needs."""

    def __init__(self, width=4):
        mx.random.seed(1)
        self.model = nn.Linear(width, 3)


def trained(steps=2, width=4):
    task, optimizer = SmallTask(width), make_optimizer(LoraSettings(learning_rate=0.1))
    for _ in range(steps):
        gradients = nn.value_and_grad(task.model, lambda model: model(mx.ones((1, width))).sum())(task.model)[1]
        optimizer.update(task.model, gradients)
    mx.eval(task.model.parameters(), optimizer.state)
    return task, optimizer


@pytest.fixture
def saved(tmp_path):
    task, optimizer = trained()
    for step in (2, 4, 6):
        checkpoint.save(
            tmp_path, task, optimizer, State(step=step, tokens=9, best_loss=0.5, validation={"valid_loss": 1.0})
        )
    return tmp_path, task, optimizer


def test_everything_comes_back_to_the_bit(saved):
    root, task, optimizer = saved
    fresh, fresh_optimizer = SmallTask(), make_optimizer(LoraSettings(learning_rate=0.1))
    state = checkpoint.restore(root, fresh, fresh_optimizer, State)
    assert state == State(step=6, tokens=9, best_loss=0.5, validation={"valid_loss": 1.0})
    for ours, theirs in ((fresh.model.parameters(), task.model.parameters()), (fresh_optimizer.state, optimizer.state)):
        ours, theirs = dict(tree_flatten(ours)), dict(tree_flatten(theirs))
        assert ours.keys() == theirs.keys() and len(ours) > 1
        assert all(mx.array_equal(ours[name], theirs[name]).item() for name in ours)


def test_two_are_kept_and_nothing_lies_about(saved):
    root, _, _ = saved
    assert sorted(path.name for path in root.iterdir()) == ["step-0000004", "step-0000006"]


@pytest.mark.parametrize("name", [checkpoint.WEIGHTS, checkpoint.OPTIMIZER, checkpoint.STATE, checkpoint.MANIFEST])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "empty"])
def test_a_damaged_one_is_named_and_the_one_before_is_used(saved, name, damage):
    root, task, optimizer = saved
    path = root / "step-0000006" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes({"flip": bytes(content), "truncate": bytes(content[:-3]), "empty": b""}[damage])
    said: list[str] = []
    state = checkpoint.restore(root, task, optimizer, State, said.append)
    assert state.step == 4
    assert len(said) == 1 and "step-0000006" in said[0]


def test_none_whole_is_an_error_and_none_at_all_is_a_fresh_start(saved, tmp_path):
    root, task, optimizer = saved
    for folder in checkpoint.steps(root):
        (folder / checkpoint.WEIGHTS).unlink()
    with pytest.raises(ArtifactError, match="none of 2 checkpoints is whole"):
        checkpoint.restore(root, task, optimizer, State)
    assert checkpoint.restore(tmp_path / "empty", task, optimizer, State) is None


def test_a_half_written_one_is_not_seen(saved):
    root, task, optimizer = saved
    shutil.copytree(root / "step-0000006", root / ".step-0000008.77")
    assert checkpoint.restore(root, task, optimizer, State).step == 6


def test_one_of_another_model_is_refused(saved):
    root, _, _ = saved
    other, optimizer = trained(width=5)
    with pytest.raises(ArtifactError, match="not this model's tensors: weight"):
        checkpoint.restore(root, other, optimizer, State)

"""What a validation says besides its loss: how sure it is, and what training rows score in the same way."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np
import planted_worlds
import pytest
from mlx import nn

from thunder.parallel.world import World
from thunder.training.validation import validate


@pytest.fixture
def task():
    train, valid, _, _ = planted_worlds.world("healthy")
    return planted_worlds.Classifier(train, valid[:157])  # the last batch is a short one


def per_row(task, rows):
    """Cross entropy of each row, in numpy."""
    weight, bias = (np.asarray(array, np.float64) for array in (task.model.layers[0].weight, task.model.layers[0].bias))
    logits = np.array([row["point"] for row in rows]) @ weight.T + bias
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -logs[np.arange(len(rows)), [row["kind"] for row in rows]]


def test_loss_error_and_probe_against_numpy(task):
    found = validate(task, World(), lambda: False)
    losses = per_row(task, task.valid)
    assert found["valid_loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert found["probe_loss"] == pytest.approx(per_row(task, task.train[:157]).mean(), rel=1e-5)
    # rows are independent here, so that the spread over batches of 8 is the spread over rows
    batches = [losses[at : at + 8] for at in range(0, len(losses), 8)]
    residuals = np.array([batch.sum() - losses.mean() * len(batch) for batch in batches])
    wanted = math.sqrt((residuals**2).sum() * len(batches) / (len(batches) - 1)) / len(losses)
    assert found["valid_se"] == pytest.approx(wanted, rel=1e-4)
    draw = np.random.default_rng(0)
    means = [draw.choice(losses, len(losses)).mean() for _ in range(2000)]
    assert found["valid_se"] == pytest.approx(np.std(means), rel=0.35), "and near what resampling rows says"


def test_one_batch_has_no_error_and_a_task_may_have_no_probe(task):
    task.valid = task.valid[:8]
    found = validate(task, World(), lambda: False)
    assert "valid_se" not in found and "probe_se" not in found and "probe_loss" in found

    class Unprobed:
        model, groups, loss = task.model, task.groups, task.loss
        validation, validation_metrics = task.validation, task.validation_metrics

    assert validate(Unprobed(), World(), lambda: False) == {"valid_loss": found["valid_loss"]}


def test_probing_moves_no_weight_and_ends_in_training_mode(task):
    before = {name: np.asarray(array) for name, array in nn.utils.tree_flatten(task.model.parameters())}
    validate(task, World(), lambda: False)
    after = dict(nn.utils.tree_flatten(task.model.parameters()))
    assert all(mx.array_equal(mx.array(array), after[name]) for name, array in before.items())
    assert task.model.training
    asked = iter([False] * 30 + [True] * 100)
    assert validate(task, World(), lambda: next(asked)) is None, "a stop is heard while the probe is scored"


def test_progress_counts_batches_up_to_what_the_task_announces(task):
    told = []
    validate(task, World(), lambda: False, lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == list(range(1, len(told) + 1)) and {total for _, total in told} == {0}
    task.validation_batches = lambda rank, size: len(told)
    again = []
    validate(task, World(), lambda: False, lambda done, total: again.append((done, total)))
    assert again[-1] == (len(told), len(told))

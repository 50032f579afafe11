"""Dropout by row: masks depend on the row and the place, not on the batch; one rank of 4 rows is two of 2."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
import toy_speech
from mlx import nn
from mlx.utils import tree_flatten, tree_map

from thunder.acoustic.head.row_dropout import RowDropout, keys_of_rows, keys_of_two_views, row_masks


def test_a_mask_depends_on_the_row_and_the_place_only():
    keys = keys_of_rows([(1, 13, 0, row) for row in range(4)])
    masks = row_masks(keys, 3, 100, 24, 0.25)
    assert mx.array_equal(row_masks(keys[2:], 3, 133, 24, 0.25)[:, :100], masks[2:])
    others = [masks[0], masks[1], row_masks(keys[:1], 4, 100, 24, 0.25)[0], masks[0, ::-1]]
    assert not any(mx.array_equal(masks[2], other) for other in others)
    assert not mx.array_equal(masks[0, :16], masks[0, 16:32])  # chunks differ
    assert float(row_masks(keys, 0, 4000, 64, 0.25).astype(mx.float32).mean()) == pytest.approx(0.75, abs=0.005)
    two = keys_of_two_views(keys)
    assert len(set(two.tolist())) == 8 and two[:4].tolist() == keys.tolist()


def test_the_mean_is_kept_and_evaluation_drops_nothing():
    layer, x = RowDropout(0.2, 0), mx.ones((2, 500, 40))
    keys = keys_of_rows([(0,), (1,)])
    dropped = layer(x, keys)
    assert set(np.unique(np.array(dropped))) == {0.0, np.float32(1.25)}
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02) and float(layer(x, None).mean()) == pytest.approx(
        1, abs=0.02
    )
    assert layer.eval()(x, keys) is x and RowDropout(0.0, 0)(x, keys) is x


def gradient_of(task, rows):
    batch = task.batch(rows, 0)
    mx.random.seed(len(rows))  # a rank's own state has no part in it
    return nn.value_and_grad(task.model, lambda *arrays: task.loss(task.model, *arrays))(*batch.arrays)


@pytest.mark.parametrize("mode", ["baseline", "cr"])
def test_one_rank_of_four_rows_is_two_ranks_of_two(mode):
    task = toy_speech.task(mode=mode, dropout=0.3)
    whole_loss, whole = gradient_of(task, [0, 1, 2, 3])
    (one_loss, one), (two_loss, two) = gradient_of(task, [0, 1]), gradient_of(task, [2, 3])
    assert float(one_loss + two_loss) == pytest.approx(float(whole_loss), rel=1e-5)
    summed = dict(tree_flatten(tree_map(mx.add, one, two)))
    for name, expected in tree_flatten(whole):
        scale = max(1e-3, float(mx.abs(expected).max()))
        assert float(mx.abs(expected - summed[name]).max()) < 2e-4 * scale, name
    still = toy_speech.task(mode=mode, dropout=0.0)
    assert float(gradient_of(still, [0, 1, 2, 3])[0]) != pytest.approx(float(whole_loss), rel=1e-3)


def test_another_epoch_drops_others():
    task = toy_speech.task(dropout=0.3)
    first, again, second = (task.batch([0, 1], epoch).arrays[-1].tolist() for epoch in (0, 0, 1))
    assert first == again and not set(first) & set(second)


def test_without_keys_it_is_the_dropout_of_mlx():
    x = mx.random.normal((2, 30, 8))
    mx.random.seed(5)
    expected = nn.Dropout(0.3)(x)
    mx.random.seed(5)
    assert mx.array_equal(RowDropout(0.3, 2)(x, None), expected)


def test_runs_of_an_earlier_version_draw_by_batch():
    task = toy_speech.task(dropout=0.3, dropout_draw="batch")
    assert len(task.batch([0, 1], 0).arrays) + 1 == len(toy_speech.task(dropout=0.3).batch([0, 1], 0).arrays)

"""The acoustic task: its loss against single utterances, batches, and what must be the same however it is run."""

import mlx.core as mx
import numpy as np
import pytest
import toy_speech
from mlx.utils import tree_flatten

from thunder.acoustic.features.store_index import Utterance
from thunder.acoustic.head.ctc_head import downsampled_frames
from thunder.kernels.ctc import ctc_loss
from thunder.parallel import row_order
from thunder.parallel.world import World
from thunder.training.step import make_gradient, make_optimizer, make_step

MODES = ("baseline", "trajectory", "tar", "cr", "ttt", "trajectory+ttt", "trajectory+tar+ttt")


def trained(steps, count=24, **changes):
    """A task after some steps, and the losses on the way."""
    made = toy_speech.task(count, iters=steps, learning_rate=3e-3, **changes)
    step = make_step(made, make_optimizer(made.settings), made.settings, World())
    plans = row_order.plan_steps(made.rows, 4, 0, until=steps, lengths=made.lengths)
    return made, [step(plan, False).loss for plan in plans]


def weights(made):
    return {name: np.array(array) for name, array in tree_flatten(made.model.trainable_parameters())}


@pytest.mark.parametrize("downsample", [1, 2])
def test_the_loss_is_the_sum_of_those_of_single_utterances(downsample):
    made = toy_speech.task(downsample=downsample)
    batch = made.batch([0, 3, 5, 6], 0)
    total = made.loss(made.model, *batch.arrays)
    single = 0.0
    for row in (0, 3, 5, 6):
        one = made.dataset.train[row]
        x = mx.array(made.assembler.normalize(made.dataset.features.features_of(one)))[None]
        frames = downsampled_frames(one.frames, downsample)
        logits = made.model(x, mx.array([one.frames]), mx.zeros((1, frames, 7)))
        labels = mx.array([one.labels])
        single += ctc_loss(logits, mx.array([frames]), labels, mx.array([len(one.labels)])).item()
    assert total.item() == pytest.approx(single, rel=1e-4)
    assert batch.tokens == sum(len(made.dataset.train[row].labels) for row in (0, 3, 5, 6))


@pytest.mark.expensive
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_learns(mode):
    made, losses = trained(18, mode=mode, conditioning="attn-bias" if "tar" in mode else "add")
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:3]), losses
    assert all(np.isfinite(array).all() for array in weights(made).values())


@pytest.mark.expensive
def test_a_learning_rate_of_zero_trains_exactly_the_model_without_fast_weights():
    plain, with_them = trained(6, dropout=0.1), trained(6, dropout=0.1, mode="ttt", ttt_lr=0.0)
    assert plain[1] == with_them[1]
    mine, theirs = weights(plain[0]), weights(with_them[0])
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
    assert trained(6, dropout=0.1, mode="ttt", ttt_lr=0.01)[1] != plain[1]


@pytest.mark.slow  # MLX compiles the whole sweep over frames for this
def test_compiled_and_uncompiled_steps_have_one_gradient():
    made = toy_speech.task(mode="trajectory+tar+ttt")
    assert made.compiled is False, "on the CPU"
    batch = made.batch([0, 1, 2, 3], 0)
    loss, gradient = make_gradient(made)(batch)
    made.compiled = True
    again, compiled = make_gradient(made)(batch)
    assert loss.item() == pytest.approx(again.item(), rel=1e-5)
    scale = max(float(mx.abs(array).max()) for _, array in tree_flatten(gradient))
    for (name, one), (_, other) in zip(tree_flatten(gradient), tree_flatten(compiled), strict=True):
        np.testing.assert_allclose(np.array(one), np.array(other), atol=2e-5 * scale, err_msg=name)


def test_validation_is_plain_ctc_in_every_mode_and_shared_by_ranks():
    found = {}
    for mode in ("baseline", "tar", "cr"):
        made = toy_speech.task(mode=mode)
        made.model.eval()
        batches = [batch for _, batch in made.validation(0, 1)]
        found[mode] = sum(made.loss(made.model, *batch.arrays).item() for batch in batches)
        halves = [batch for rank in (0, 1) for _, batch in made.validation(rank, 2)]
        assert sum(b.tokens for b in batches) == sum(b.tokens for b in halves) > 0
        shared = sum(made.loss(made.model, *batch.arrays).item() for batch in halves)
        assert shared == pytest.approx(found[mode], rel=1e-5)
    assert found["baseline"] == found["tar"] == found["cr"]
    assert made.validation_metrics({"valid": (6.0, 4.0)}) == {"valid_loss": 1.5}


@pytest.mark.expensive
def test_a_head_with_fewer_positions_than_frames_is_refused_by_name():
    from thunder.errors import UsageError

    rows = toy_speech.rows(8)
    rows.append((Utterance("endless", 2000, 20.0, "one", "s0"), np.zeros((2000, toy_speech.WIDTH), np.float32)))
    from thunder.acoustic.dataset import utterances as parts
    from thunder.acoustic.training.ctc_task import AcousticTask
    from thunder.acoustic.trajectory.training_statistics import fit_statistics

    chosen = toy_speech.settings(head="transformer-768")
    prepared = parts.prepare_dataset(chosen, parts.FeatureSet((toy_speech.MemoryStore(rows),)))
    with pytest.raises(UsageError, match="'endless' has 2000 frames"):
        AcousticTask(chosen, prepared, fit_statistics(chosen, prepared.features, prepared.train))

"""The same run on any number of ranks, and the same loss and gradient as mlx_lm's own."""

from __future__ import annotations

import shutil

import mlx.core as mx
import numpy as np
import pytest
from conftest import make_rows, rank_runner, write_rows
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.trainer import default_loss
from ranked_training import largest_difference, run_training, trained

from thunder.corpora.rows import chat_rows as corpus_rows
from thunder.lora import base_model, tokenized_rows
from thunder.lora.lora_settings import EMBEDDED_MODEL, LoraSettings
from thunder.lora.lora_task import LoraTask
from thunder.parallel import row_order
from thunder.parallel.world import World
from thunder.training.step import make_gradient, make_optimizer, make_step

pytestmark = pytest.mark.expensive


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """Gives `trained` for runs that several tests compare with: its folder, and what it returns."""
    folder, done = tmp_path_factory.mktemp("trained"), {}
    with rank_runner(folder) as run:

        def train(ranks, **changes):
            name = "-".join(map(str, (ranks, *(part for item in sorted(changes.items()) for part in item))))
            if name not in done:
                done[name] = trained(run, folder, ranks, name, **changes)
            return folder / name, done[name]

        yield train


def test_one_rank_of_two_rows_equals_two_ranks_of_one_row(trained_once):
    # 19 training rows: the last step of an epoch has one row, and one of the two ranks none
    _, one = trained_once(1, batch_size=2)
    _, two = trained_once(2, batch_size=1)
    assert len(one[0]) == 12
    np.testing.assert_allclose(one[0], two[0], rtol=1e-5)
    np.testing.assert_allclose(one[1], two[1], rtol=1e-5)
    assert largest_difference(one[2], two[2]) < 1e-5
    assert one[1][-1] < one[1][0], "it must have learnt something for the comparison to mean anything"
    assert max(float(np.abs(array).max()) for key, array in one[2].items() if "lora_b" in key) > 1e-3


def test_three_ranks_with_uneven_rows_equal_one(run_ranks, tmp_path):
    one = trained(run_ranks, tmp_path, 1, "one", batch_size=3)
    three = trained(run_ranks, tmp_path, 3, "three", batch_size=1)
    np.testing.assert_allclose(one[0], three[0], rtol=1e-5)
    assert largest_difference(one[2], three[2]) < 1e-5


def test_accumulation_equals_a_larger_batch(run_ranks, tmp_path):
    plain = trained(run_ranks, tmp_path, 1, "plain", batch_size=4)
    accumulated = trained(
        run_ranks, tmp_path, 1, "accumulated", batch_size=1, grad_accumulation_steps=4,
        iters=48, steps_per_report=4, steps_per_eval=20, save_every=24,
    )  # fmt: skip
    np.testing.assert_allclose(plain[0], accumulated[0], rtol=1e-5)
    assert largest_difference(plain[2], accumulated[2]) < 1e-5


@pytest.mark.slow
def test_one_rank_carries_on_what_two_were_planned_for(run_ranks, tmp_path):
    """Fewer ranks, smaller pieces, recomputed activations: circumstances, which change nothing but rounding."""
    two = trained(run_ranks, tmp_path, 2, "two", batch_size=2)
    for name, ranks, how in (
        ("alone", 1, {"planned_ranks": 2}),
        ("pieces", 1, {"planned_ranks": 2, "micro_batch_size": 1, "grad_checkpoint": True}),
        ("halved", 2, {"micro_batch_size": 1}),
    ):
        other = trained(run_ranks, tmp_path, ranks, name, how=how, batch_size=2)
        np.testing.assert_allclose(two[0], other[0], rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(two[1], other[1], rtol=1e-5, err_msg=name)
        assert largest_difference(two[2], other[2]) < 1e-5, name
    unplanned = trained(run_ranks, tmp_path, 1, "unplanned", batch_size=2)
    assert largest_difference(two[2], unplanned[2]) > 1e-4, "the comparison must be able to fail"


def test_a_run_of_two_goes_on_alone(run_ranks, trained_once, tmp_path):
    """From the checkpoint of step 6 of two ranks, one rank goes on with the same global batch."""
    folder, two = trained_once(2, batch_size=1)
    shutil.copytree(folder, tmp_path / "two")
    shutil.rmtree(tmp_path / "two" / "checkpoints" / "step-0000012")
    (tmp_path / "two" / "metrics.jsonl").unlink()
    results = run_training(run_ranks, tmp_path, 1, "two", batch_size=1)
    assert results[0][0] == 1 and "planned ranks: 2 -> 1" in results[0][1], "a smaller batch is not taken unasked"
    alone = trained(run_ranks, tmp_path, 1, "two", how={"planned_ranks": 2}, batch_size=1)
    np.testing.assert_allclose(two[0][6:], alone[0], rtol=1e-5)
    assert largest_difference(two[2], alone[2]) < 1e-5


def test_two_runs_are_byte_identical(run_ranks, trained_once, tmp_path):
    _, first = trained_once(2, batch_size=1, lora_dropout=0.1)
    second = trained(run_ranks, tmp_path, 2, "second", batch_size=1, lora_dropout=0.1)
    assert first[3] == second[3]
    assert first[0] == second[0]
    other = trained(run_ranks, tmp_path, 2, "other", batch_size=1, lora_dropout=0.1, seed=6)
    assert first[3] != other[3]


def test_all_ranks_end_with_the_same_weights(trained_once):
    folder, (*_, main) = trained_once(2, batch_size=1)
    other = mx.load(str(folder.parent / f"{folder.name}-rank1.safetensors"))
    mine = mx.load(str(folder / "adapters" / "adapters.safetensors"))
    assert main
    assert all(mx.array_equal(mine[key], other[key]).item() for key in mine)


def test_a_resumed_run_is_byte_identical(run_ranks, trained_once, tmp_path):
    """Stopping after step 6 and starting again leaves the very bytes of a run that never stopped."""
    folder, whole = trained_once(2, batch_size=1, lora_dropout=0.1)
    halfway = tmp_path / "halfway"
    shutil.copytree(folder, halfway)
    shutil.rmtree(halfway / "adapters")
    shutil.rmtree(halfway / "checkpoints" / "step-0000012")
    (halfway / "metrics.jsonl").unlink()
    resumed = trained(run_ranks, tmp_path, 2, "halfway", batch_size=1, lora_dropout=0.1)
    assert len(resumed[0]) == 6
    assert resumed[0] == whole[0][6:]
    assert resumed[3] == whole[3]


@pytest.mark.parametrize("mask_prompt", [True, False])
@pytest.mark.parametrize("batch", [1, 4])
def test_loss_and_gradient_equal_mlx_lm(tmp_path, batch, mask_prompt):
    """With the shipped model: of random weights, rounding alone makes more than 1e-5 of the largest gradient."""
    settings = LoraSettings(num_layers=4, lora_rank=4, batch_size=batch, seed=3, mask_prompt=mask_prompt)
    rows = corpus_rows.read_rows(write_rows(tmp_path / "rows.jsonl", make_rows(batch, seed=9))).rows
    examples = tokenized_rows.encode_rows(
        rows, tokenized_rows.load_tokenizer(EMBEDDED_MODEL), 256, mask_prompt
    ).examples
    network = base_model.load_base_model(EMBEDDED_MODEL)
    task = LoraTask(network, settings, examples)
    mx.random.seed(1)
    for _, module in network.named_modules():
        if hasattr(module, "lora_b"):  # zero at the start: A's gradient would be zero too
            module.lora_b = mx.random.normal(module.lora_b.shape) * 0.02
    ours = task.batch(range(batch), 0)
    loss_sum, gradients = make_gradient(task)(ours)
    ids = mx.array(tokenized_rows.pad_examples(examples)[0])
    # mlx_lm's mask takes one target too many behind a padded row's end; `length - 1` leaves that one out
    offsets = mx.array([[example.offset, len(example.ids) - 1] for example in examples])
    (theirs, tokens), their_gradients = nn.value_and_grad(network, default_loss)(network, ids, offsets)
    assert tokens.item() == ours.tokens == sum(example.supervised for example in examples)
    np.testing.assert_allclose(loss_sum.item() / ours.tokens, theirs.item(), rtol=1e-5)
    flat, their_flat = dict(tree_flatten(gradients)), dict(tree_flatten(their_gradients))
    assert flat.keys() == their_flat.keys() and len(flat) > 8
    scale = max(float(mx.abs(value).max()) for value in their_flat.values())
    for key in flat:
        np.testing.assert_allclose(
            np.array(flat[key]) / ours.tokens, np.array(their_flat[key]), atol=1e-5 * scale, err_msg=key
        )
    assert scale > 1e-4


def test_gradient_checkpointing_changes_nothing(run_ranks, trained_once, tmp_path):
    _, plain = trained_once(1, batch_size=2)
    checkpointed = trained(run_ranks, tmp_path, 1, "checkpointed", batch_size=2, grad_checkpoint=True)
    np.testing.assert_allclose(plain[0], checkpointed[0], rtol=1e-5)
    assert largest_difference(plain[2], checkpointed[2]) < 1e-5


@pytest.mark.parametrize(("kind", "tolerance"), [("4-bit", 1e-4), ("bf16", 2e-2)])
def test_other_bases_learn_and_give_mlx_lms_loss(tiny_model, tmp_path, kind, tolerance):
    network = base_model.load_base_model(tiny_model)
    if kind == "4-bit":
        # widths of 8 and 48 do not divide into groups of 32
        fits = [m for m in network.modules() if hasattr(m, "to_quantized") and m.weight.shape[-1] % 32 == 0]
        nn.quantize(network, group_size=32, bits=4, class_predicate=lambda _, m: any(m is fit for fit in fits))
        assert any(isinstance(module, nn.QuantizedLinear) for module in network.modules())
    else:
        network.set_dtype(mx.bfloat16)
    settings = LoraSettings(num_layers=4, lora_rank=4, learning_rate=1e-3, iters=12, batch_size=4)
    rows = corpus_rows.read_rows(write_rows(tmp_path / "rows.jsonl", make_rows(4, seed=9))).rows
    examples = tokenized_rows.encode_rows(rows, tokenized_rows.load_tokenizer(tiny_model), 256).examples
    task = LoraTask(network, settings, examples)
    ids = mx.array(tokenized_rows.pad_examples(examples)[0])
    theirs, _ = default_loss(network, ids, mx.array([[e.offset, len(e.ids) - 1] for e in examples]))
    step = make_step(task, make_optimizer(settings), settings, World())
    losses = [step(plan, False).loss for plan in row_order.plan_steps(4, 4, 0, until=12)]
    assert losses[0] == pytest.approx(theirs.item(), rel=tolerance)
    assert losses[-1] < losses[0]
    assert {array.dtype for _, array in tree_flatten(network.trainable_parameters())} == {mx.float32}

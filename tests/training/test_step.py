"""One update: the loss and gradient of mlx_lm on the same rows, with full, quantized and bfloat16 bases."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from conftest import make_rows, write_rows
from mlx import nn
from mlx.optimizers import AdamW
from mlx.utils import tree_flatten
from mlx_lm.tuner.trainer import default_loss

from thunder.corpora.rows import chat_rows as corpus_rows
from thunder.lora import base_model, tokenized_rows
from thunder.lora.lora_settings import EMBEDDED_MODEL, LoraSettings
from thunder.lora.lora_task import LoraTask
from thunder.lora.prompts.load_prompts import load_prompt_format
from thunder.parallel import row_order
from thunder.parallel.world import World
from thunder.training.step import make_gradient, make_optimizer, make_step

pytestmark = pytest.mark.expensive


@pytest.mark.parametrize("mask_prompt", [True, False])
@pytest.mark.parametrize("batch", [1, 4])
def test_loss_and_gradient_equal_mlx_lm(tmp_path, batch, mask_prompt):
    """With the shipped model: of random weights, rounding alone makes more than 1e-5 of the largest gradient."""
    settings = LoraSettings(num_layers=4, lora_rank=4, batch_size=batch, seed=3, mask_prompt=mask_prompt)
    rows = corpus_rows.read_rows(write_rows(tmp_path / "rows.jsonl", make_rows(batch, seed=9))).rows
    examples = tokenized_rows.encode_rows(rows, load_prompt_format(EMBEDDED_MODEL), 256, mask_prompt).examples
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
    examples = tokenized_rows.encode_rows(rows, load_prompt_format(tiny_model), 256).examples
    task = LoraTask(network, settings, examples)
    ids = mx.array(tokenized_rows.pad_examples(examples)[0])
    theirs, _ = default_loss(network, ids, mx.array([[e.offset, len(e.ids) - 1] for e in examples]))
    step = make_step(task, make_optimizer(settings), settings, World())
    losses = [step(plan, False).loss for plan in row_order.plan_steps(4, 4, 0, until=12)]
    assert losses[0] == pytest.approx(theirs.item(), rel=tolerance)
    assert losses[-1] < losses[0]
    assert {array.dtype for _, array in tree_flatten(network.trainable_parameters())} == {mx.float32}


def test_the_optimizer_has_mlx_lms_options_of_adamw():
    options = {"adam_eps": 1e-4, "adam_bias_correction": True, "adam_betas": [0.5, 0.75], "weight_decay": 0.25}
    ours, reference = (
        make_optimizer(LoraSettings(learning_rate=0.5, **options)),
        AdamW(0.5, [0.5, 0.75], 1e-4, 0.25, True),
    )
    moved = []
    for optimizer in (ours, reference):
        parameters = {"a": mx.array([1.0, -2.0])}
        for _ in range(3):
            parameters = optimizer.apply_gradients({"a": mx.array([1e-4, 3.0])}, parameters)
        moved.append(parameters["a"].tolist())
    assert moved[0] == moved[1]
    assert make_optimizer(LoraSettings()).bias_correction is False and make_optimizer(LoraSettings()).eps == 1e-8

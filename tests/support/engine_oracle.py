"""The reference of engine tests: mlx_lm's own loss and gradient of the same rows."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import numpy as np
from hypothesis import strategies as st
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.trainer import default_loss

from thunder.corpora.rows.chat_rows import ChatRow
from thunder.lora import adapters, tokenized_rows
from thunder.lora.lora_settings import LoraSettings
from thunder.lora.tokenized_rows import Example

VOCABULARY = 96


def trainable(network: nn.Module, layers: int, dropout: float = 0.0) -> nn.Module:
    """The model with LoRA whose B is not zero: with B = 0, as it starts, the gradient of A is zero too."""
    adapters.add_lora(network, LoraSettings(num_layers=layers, lora_rank=2, lora_dropout=dropout, seed=1))
    for _, module in network.named_modules():
        if hasattr(module, "lora_b"):
            module.lora_b = mx.random.normal(module.lora_b.shape) * 0.02
    mx.eval(network.parameters())
    network.train()
    return network


def random_example(draw: np.random.Generator, beginning: list[int], prompt: int, answer: int) -> Example:
    """Random tokens with the answer supervised."""
    ids = [*beginning, *draw.integers(1, VOCABULARY, prompt + answer)]
    return Example(np.array(ids, np.int32), len(beginning) + prompt, ChatRow((), "test", "test"))


def mlx_lm_loss_and_gradient(
    network: nn.Module, examples: list[Example], logits: Callable | None = None
) -> tuple[float, dict[str, np.ndarray]]:
    """mlx_lm's loss and gradient, summed over tokens.

    Its mask supervises one target too many after the end of a padded row, so lengths are one less here.

    logits: (model, ids) -> logits, where that is not a call of the model.
    """
    ids, _ = tokenized_rows.pad_examples(examples)
    lengths = mx.array([[each.offset, len(each.ids) - 1] for each in examples])

    def loss_function(network: nn.Module, *batch: mx.array) -> tuple[mx.array, mx.array]:
        return default_loss((lambda ids: logits(network, ids)) if logits else network, *batch)

    (loss, tokens), gradient = nn.value_and_grad(network, loss_function)(network, mx.array(ids), lengths)
    flat = {name: np.array(array * tokens, np.float64) for name, array in tree_flatten(gradient)}
    return loss.item() * tokens.item(), flat


def engine_loss_and_gradient(engine, examples: list[Example]) -> tuple[float, dict[str, np.ndarray]]:
    """The engine's loss and gradient of the same rows."""
    batch = engine.batch(examples)
    assert batch.tokens == sum(each.supervised for each in examples)
    step = nn.value_and_grad(engine.model, lambda *arrays: engine.loss(engine.model, *arrays))
    loss, gradient = step(*batch.arrays)
    return loss.item(), {name: np.array(array, np.float64) for name, array in tree_flatten(gradient)}


def distance(gradient: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> float:
    """Norm of the difference of two gradients, relative to the reference's norm."""
    assert gradient.keys() == reference.keys()
    squared = sum(np.square(gradient[name] - reference[name]).sum() for name in reference)
    return float(np.sqrt(squared / sum(np.square(array).sum() for array in reference.values())))


row_shapes = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 20)), min_size=1, max_size=4)
"""Lengths of the prompts and answers of one to four rows."""


def quantized(network: nn.Module) -> nn.Module:
    """The model in 4 bits, in layers whose width divides into groups of 32."""
    fits = [m for m in network.modules() if hasattr(m, "to_quantized") and m.weight.shape[-1] % 32 == 0]
    nn.quantize(network, group_size=32, bits=4, class_predicate=lambda _, m: any(m is fit for fit in fits))
    assert any(isinstance(module, nn.QuantizedEmbedding) for module in network.modules())
    return network

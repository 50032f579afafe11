"""What engines are compared with: mlx_lm's own loss and gradient of the same rows."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import numpy as np
from hypothesis import strategies as st
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.trainer import default_loss

from thunder.corpora.rows.chat_rows import Row
from thunder.lora import adapters, tokenized_rows
from thunder.lora.lora_settings import LoraSettings
from thunder.lora.tokenized_rows import Example

VOCABULARY = 96


def trainable(network: nn.Module, layers: int, dropout: float = 0.0) -> nn.Module:
    """The model with LoRA that does something: at the start B is zero, and so is the gradient of A."""
    adapters.add(network, LoraSettings(num_layers=layers, lora_rank=2, lora_dropout=dropout, seed=1))
    for _, module in network.named_modules():
        if hasattr(module, "lora_b"):
            module.lora_b = mx.random.normal(module.lora_b.shape) * 0.02
    mx.eval(network.parameters())
    network.train()
    return network


def example(draw: np.random.Generator, beginning: list[int], prompt: int, answer: int) -> Example:
    """Random tokens with the answer supervised."""
    ids = [*beginning, *draw.integers(1, VOCABULARY, prompt + answer)]
    return Example(np.array(ids, np.int32), len(beginning) + prompt, Row((), "test", "test"))


def theirs(
    network: nn.Module, examples: list[Example], logits: Callable | None = None
) -> tuple[float, dict[str, np.ndarray]]:
    """mlx_lm's loss and gradient, summed over tokens; its mask takes one target too many behind a padded row's end.

    logits: what of the model and ids makes logits, where it is not the model itself.
    """
    ids, _ = tokenized_rows.pad(examples)
    lengths = mx.array([[each.offset, len(each.ids) - 1] for each in examples])

    def loss_of(network: nn.Module, *batch: mx.array) -> tuple[mx.array, mx.array]:
        return default_loss((lambda ids: logits(network, ids)) if logits else network, *batch)

    (loss, tokens), gradient = nn.value_and_grad(network, loss_of)(network, mx.array(ids), lengths)
    flat = {name: np.array(array * tokens, np.float64) for name, array in tree_flatten(gradient)}
    return loss.item() * tokens.item(), flat


def ours(engine, examples: list[Example]) -> tuple[float, dict[str, np.ndarray]]:
    """The engine's."""
    batch = engine.batch(examples)
    assert batch.tokens == sum(each.supervised for each in examples)
    step = nn.value_and_grad(engine.model, lambda *arrays: engine.loss(engine.model, *arrays))
    loss, gradient = step(*batch.arrays)
    return loss.item(), {name: np.array(array, np.float64) for name, array in tree_flatten(gradient)}


def distance(mine: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """Of two gradients, relative to the second's norm."""
    assert mine.keys() == other.keys()
    apart = sum(np.square(mine[name] - other[name]).sum() for name in other)
    return float(np.sqrt(apart / sum(np.square(array).sum() for array in other.values())))


rows_of = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 20)), min_size=1, max_size=4)
"""Lengths of the prompts and answers of one to four rows."""


def quantised(network: nn.Module) -> nn.Module:
    """In 4 bits, where widths divide into groups of 32."""
    fits = [m for m in network.modules() if hasattr(m, "to_quantized") and m.weight.shape[-1] % 32 == 0]
    nn.quantize(network, group_size=32, bits=4, class_predicate=lambda _, m: any(m is fit for fit in fits))
    assert any(isinstance(module, nn.QuantizedEmbedding) for module in network.modules())
    return network

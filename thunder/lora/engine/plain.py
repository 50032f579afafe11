"""A model run whole, as mlx_lm runs it: what the other engines have to equal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from thunder.lora import batches
from thunder.lora.batches import Example
from thunder.lora.loss import supervised_loss
from thunder.training.task import Batch


class Plain:
    """Every layer and the head at all positions, padding too."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def length(self, example: Example) -> int:
        """Inputs of a row."""
        return len(example.ids) - 1

    def batch(self, examples: Sequence[Example]) -> Batch:
        """Rows as padded token ids with the spans that count."""
        ids, spans = batches.pad(examples)
        return Batch((mx.array(ids), mx.array(spans)), sum(example.supervised for example in examples))

    def restore_frozen(self, folder: Path) -> None:
        """Nothing was dropped."""

    def loss(self, model: nn.Module, *arrays: mx.array) -> mx.array:
        """[] float32 cross entropy summed over supervised positions."""
        return supervised_loss(model, *arrays)

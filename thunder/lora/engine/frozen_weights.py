"""Frozen weights that no step needs once every row has a cache entry: dropped from memory, and loaded again."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map

from thunder.lora.engine.split_model import SplitModel


class FrozenWeights:
    """The weights of a split model's frozen layers, and of the tables that only frozen parts of rows need."""

    def __init__(self, model: nn.Module, split: SplitModel) -> None:
        chosen = {id(module) for module in [*split.layers[: split.first_trained], *split.frozen_tables]}
        self.modules = {name: module for name, module in model.named_modules() if id(module) in chosen}
        self.dropped = False

    @property
    def nbytes(self) -> int:
        """Bytes of the weights that are in memory now."""
        return sum(array.nbytes for module in self.modules.values() for _, array in tree_flatten(module.parameters()))

    def drop(self) -> None:
        """Replace the weights by empty arrays; code that still uses them fails with a shape error."""
        for module in self.modules.values():
            module.update(tree_map(lambda array: mx.zeros((0,), array.dtype), module.parameters()))
        self.dropped = True
        mx.clear_cache()

    def restore(self, folder: Path) -> None:
        """Load the weights from the model's folder again; no other weights are read."""
        if not self.dropped:
            return
        import mlx_lm.utils

        whole, _ = mlx_lm.utils.load_model(folder, lazy=True)
        fresh = dict(whole.named_modules())
        for name, module in self.modules.items():
            module.update(fresh[name].parameters())
            mx.eval(module.parameters())
        self.dropped = False

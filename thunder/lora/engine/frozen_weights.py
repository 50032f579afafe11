"""The weights that no step needs once the frozen part of every row is kept: dropped from memory, and brought back."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map

from thunder.lora.engine.split_model import Trunk


class FrozenPart:
    """A trunk's frozen layers and the tables that only they and the per-layer inputs need."""

    def __init__(self, model: nn.Module, trunk: Trunk) -> None:
        chosen = {id(module) for module in [*trunk.layers[: trunk.first], *trunk.tables]}
        self.modules = {name: module for name, module in model.named_modules() if id(module) in chosen}
        self.dropped = False

    @property
    def size(self) -> int:
        """Bytes of its weights as they are now."""
        return sum(array.nbytes for module in self.modules.values() for _, array in tree_flatten(module.parameters()))

    def drop(self) -> None:
        """Let go of the weights; whatever still uses them fails for their shape."""
        for module in self.modules.values():
            module.update(tree_map(lambda array: mx.zeros((0,), array.dtype), module.parameters()))
        self.dropped = True
        mx.clear_cache()

    def restore(self, folder: Path) -> None:
        """Read the weights from the model's folder again; nothing else there is read."""
        if not self.dropped:
            return
        import mlx_lm.utils

        whole, _ = mlx_lm.utils.load_model(folder, lazy=True)
        fresh = dict(whole.named_modules())
        for name, module in self.modules.items():
            module.update(fresh[name].parameters())
            mx.eval(module.parameters())
        self.dropped = False

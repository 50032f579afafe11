"""A model whose frozen layers are run once for each row, apart from the step that trains the layers above."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from thunder.lora.engine import supervised_positions
from thunder.lora.engine.frozen_prefix import Prefix, common_beginning
from thunder.lora.engine.frozen_weights import FrozenPart
from thunder.lora.engine.lm_head_loss import Head
from thunder.lora.engine.split_model import KeysValues, Places, Trunk
from thunder.lora.tokenized_rows import Example
from thunder.training.task import Batch


class Entries(Protocol):
    """Where entries of rows are kept."""

    def get(self, key: bytes) -> np.ndarray | None:
        """The bytes of an entry, None where there is none."""
        ...

    def put(self, key: bytes, content: np.ndarray) -> bool:
        """Keep an entry; False where there is no room."""
        ...


class Staged:
    """Batches and loss of a model with LoRA on its last layers; equal to the whole model's to rounding."""

    def __init__(self, model: nn.Module, trunk: Trunk, examples: Sequence[Example]) -> None:
        """examples: all that batches will be made of; they decide the padded sizes and the common beginning."""
        self.trunk = trunk
        self.prefix = Prefix(trunk, common_beginning(examples))
        self.head = Head(trunk.projection, trunk.cap)
        self.frozen = FrozenPart(model, trunk)
        self.model = only_trained(model, trunk)
        self.sizes = supervised_positions.Sizes([self._lengths(example) for example in examples])
        self.entries: Entries | None = None
        self._home: Path | None = None

    def length(self, example: Example) -> int:
        """What a row's cost goes by: supervised positions, or all where trained layers need them."""
        return self._lengths(example)[0]

    def _lengths(self, example: Example) -> tuple[int, int]:
        span = supervised_positions.of(example)
        return (span.inputs, span.count) if self._all_matter else (span.count, span.inputs)

    @property
    def _all_matter(self) -> bool:
        return self.trunk.first <= self.trunk.cut

    def batch(self, examples: Sequence[Example]) -> Batch:
        """The frozen part of rows, read or computed, padded to one of few sizes, with their targets."""
        main, other = self.sizes.of(self._lengths(example) for example in examples)
        inputs, width = (main, other) if self._all_matter else (other, main)
        arrays = self._padded(examples, inputs, width)
        placed = [supervised_positions.of(example) for example in examples]
        targets = np.zeros((len(examples), width), np.int32)
        for number, (example, span) in enumerate(zip(examples, placed, strict=True)):
            targets[number, : span.count] = example.ids[span.start + 1 :]
        starts, ends = (mx.array([getattr(span, name) for span in placed]) for name in ("start", "inputs"))
        return Batch((mx.array(targets), starts, ends, *arrays), sum(span.count for span in placed))

    def _padded(self, examples: Sequence[Example], inputs: int, width: int) -> list[mx.array]:
        """The trunk's parts [B, T or C, ...] of rows."""
        entries = self._entries(examples)
        begins = [self.prefix.begins(example) for example in examples]
        arrays = []
        for place, part in enumerate(self.trunk.parts):
            everywhere = part.positions == "all"
            kind = entries[0][place].dtype
            padded = np.zeros((len(examples), inputs if everywhere else width, *part.shape), kind)
            for number, begin in enumerate(begins):
                first = begin if everywhere else 0
                if first:
                    padded[number, :first] = self.prefix.shared_part(part.name)
                padded[number, first : first + len(entries[number][place])] = entries[number][place]
            array = mx.array(padded, part.dtype) if part.dtype == mx.float64 else mx.array(padded)
            arrays.append(array.view(mx.bfloat16) if part.dtype == mx.bfloat16 else array)
        return arrays

    def _entries(self, examples: Sequence[Example]) -> list[list[np.ndarray]]:
        """The arrays of each row: what is kept of it, else computed now, by the same arithmetic."""
        found = [
            self.entries.get(self.prefix.key(example)) if self.entries is not None else None for example in examples
        ]
        missing = [number for number, entry in enumerate(found) if entry is None]
        if missing and self.frozen.dropped:  # uneven hosts: a row of another rank has come
            assert self._home is not None, "a row without an entry, and no folder to read the frozen layers from"
            self.restore_frozen(self._home)
        for number, entry in zip(missing, self.prefix.compute([examples[n] for n in missing]), strict=True):
            found[number] = entry
            if self.entries is not None:
                self.entries.put(self.prefix.key(examples[number]), entry)
        return [
            self.prefix.unpack(example, entry)
            for example, entry in zip(examples, found, strict=True)
            if entry is not None
        ]

    def drop_frozen(self, home: Path | None = None) -> None:
        """Let go of the frozen layers: every row that is expected has an entry.

        home: the model's folder, to read them from again if another row comes; None where none ever does.
        """
        self._home = home
        for part in self.trunk.parts:
            if part.positions == "all" and len(self.prefix.beginning):
                self.prefix.shared_part(part.name)
        self.prefix.forget_layers()
        self.frozen.drop()

    def restore_frozen(self, folder: Path) -> None:
        """Have the whole model in memory again."""
        self.frozen.restore(folder)

    def loss(self, model: nn.Module, targets: mx.array, starts: mx.array, ends: mx.array, *parts: mx.array) -> mx.array:
        """[] float32 cross entropy summed over supervised positions.

        targets: [B, C] token ids. starts, ends: [B] each row's first supervised position and its inputs.
        """
        trunk, width = self.trunk, targets.shape[1]
        places = Places(starts, ends, width)
        named = dict(zip((part.name for part in trunk.parts), parts, strict=True))
        known: dict[int, KeysValues] = {
            layer: (named[f"keys.{layer}"].swapaxes(1, 2), named[f"values.{layer}"].swapaxes(1, 2))
            for layer in trunk.kept
        }
        extras = (named.get("below"), named.get("above"))
        hidden = trunk.through(named["hidden"], range(trunk.first, trunk.count), places, extras, known)
        if trunk.cut == trunk.count:
            hidden = places.gather(hidden)
        hidden = trunk.finish(hidden)
        weights = (mx.arange(width) < (ends - starts)[:, None]).astype(mx.float32)
        flat = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1), weights.reshape(-1)
        return self.head.loss(*flat, differentiable=model.training)


def only_trained(model: nn.Module, trunk: Trunk) -> nn.Module:
    """A module with the trained layers alone, under the names that they have in the model."""
    chosen = {id(layer) for layer in trunk.layers[trunk.first :]}
    top = nn.Module()
    for name, module in model.named_modules():
        if id(module) in chosen:
            *path, number = name.split(".")
            holder = top
            for step in path[:-1]:
                if step not in holder:
                    holder[step] = nn.Module()
                holder = holder[step]
            layers = holder.setdefault(path[-1], [nn.Module() for _ in trunk.layers])
            layers[int(number)] = module
    return top

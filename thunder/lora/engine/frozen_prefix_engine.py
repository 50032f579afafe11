"""Train the last layers of a model on cached outputs of its frozen layers, which run once for each row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from thunder.lora.engine.attention_inputs import KeysValues, SupervisedPositions
from thunder.lora.engine.frozen_prefix import FrozenPrefix, shared_prefix_ids
from thunder.lora.engine.frozen_weights import FrozenWeights
from thunder.lora.engine.lm_head_loss import LMHeadLoss
from thunder.lora.engine.padded_sizes import PaddedSizes, supervised_span
from thunder.lora.engine.split_model import SplitModel
from thunder.lora.tokenized_rows import Example
from thunder.training.task import Batch


class EntryStore(Protocol):
    """Stores the cache entries of rows."""

    def get(self, key: bytes) -> np.ndarray | None:
        """The bytes of an entry, None where there is none."""
        ...

    def put(self, key: bytes, content: np.ndarray) -> bool:
        """Store an entry; False where there is no room."""
        ...


class FrozenPrefixEngine:
    """Batches and loss of a model with LoRA on its last layers; the loss equals full-model training, up to rounding."""

    def __init__(self, model: nn.Module, split: SplitModel, examples: Sequence[Example]) -> None:
        """examples: all rows that batches will be made of; they decide the padded sizes and the shared prefix."""
        self.split = split
        self.prefix = FrozenPrefix(split, shared_prefix_ids(examples))
        self.head_loss = LMHeadLoss(split.output_projection, split.logit_softcap)
        self.frozen_weights = FrozenWeights(model, split)
        self.model = trained_layers_module(model, split)
        self.sizes = PaddedSizes([self._lengths(example) for example in examples])
        self.entry_store: EntryStore | None = None
        self._model_folder: Path | None = None

    def row_length(self, example: Example) -> int:
        """The length that decides a row's cost: its supervised positions, or all where trained layers need them."""
        return self._lengths(example)[0]

    def _lengths(self, example: Example) -> tuple[int, int]:
        """(main, other) length of a row: the length that decides the cost, and the other one; see PaddedSizes."""
        span = supervised_span(example)
        return (span.inputs, span.count) if self._trains_at_all_positions else (span.count, span.inputs)

    @property
    def _trains_at_all_positions(self) -> bool:
        return self.split.first_trained <= self.split.kv_boundary

    def batch(self, examples: Sequence[Example]) -> Batch:
        """Return the frozen layers' outputs for rows, padded to one of few sizes, with the rows' targets."""
        main, other = self.sizes.size_for_batch(self._lengths(example) for example in examples)
        inputs, width = (main, other) if self._trains_at_all_positions else (other, main)
        arrays = self._padded_tensors(examples, inputs, width)
        spans = [supervised_span(example) for example in examples]
        targets = np.zeros((len(examples), width), np.int32)
        for number, (example, span) in enumerate(zip(examples, spans, strict=True)):
            targets[number, : span.count] = example.ids[span.start + 1 :]
        starts, ends = (mx.array([getattr(span, name) for span in spans]) for name in ("start", "inputs"))
        return Batch((mx.array(targets), starts, ends, *arrays), sum(span.count for span in spans))

    def _padded_tensors(self, examples: Sequence[Example], inputs: int, width: int) -> list[mx.array]:
        """The cached tensors of rows, padded with zeros: [B, T, ...] or [B, C, ...].

        T: padded inputs. C: padded supervised positions.
        """
        entries = self._entries(examples)
        offsets = [self.prefix.shared_length(example) for example in examples]
        arrays = []
        for place, spec in enumerate(self.split.cached_tensors):
            at_all = spec.positions == "all"
            dtype = entries[0][place].dtype
            padded = np.zeros((len(examples), inputs if at_all else width, *spec.shape), dtype)
            for number, offset in enumerate(offsets):
                first = offset if at_all else 0
                if first:
                    padded[number, :first] = self.prefix.shared_tensor(spec.name)
                padded[number, first : first + len(entries[number][place])] = entries[number][place]
            array = mx.array(padded, spec.dtype) if spec.dtype == mx.float64 else mx.array(padded)
            arrays.append(array.view(mx.bfloat16) if spec.dtype == mx.bfloat16 else array)
        return arrays

    def _entries(self, examples: Sequence[Example]) -> list[list[np.ndarray]]:
        """The unpacked entry of each row: from the store, else computed now, by the same arithmetic."""
        entries = [
            self.entry_store.get(self.prefix.entry_key(example)) if self.entry_store is not None else None
            for example in examples
        ]
        missing = [number for number, entry in enumerate(entries) if entry is None]
        if missing and self.frozen_weights.dropped:  # hosts of different speed: a row first assigned to another rank
            assert self._model_folder is not None, "a row without an entry, and no folder to load frozen layers from"
            self.restore_frozen(self._model_folder)
        for number, entry in zip(missing, self.prefix.compute_entries([examples[n] for n in missing]), strict=True):
            entries[number] = entry
            if self.entry_store is not None:
                self.entry_store.put(self.prefix.entry_key(examples[number]), entry)
        return [
            self.prefix.unpack_entry(example, entry)
            for example, entry in zip(examples, entries, strict=True)
            if entry is not None
        ]

    def drop_frozen(self, model_folder: Path | None = None) -> None:
        """Free the frozen layers: every row that this rank expects has an entry.

        model_folder: where to load them from again if another row comes; None where no other row can come.
        """
        self._model_folder = model_folder
        for spec in self.split.cached_tensors:
            if spec.positions == "all" and len(self.prefix.shared_ids):
                self.prefix.shared_tensor(spec.name)
        self.prefix.drop_shared_prefix()
        self.frozen_weights.drop()

    def restore_frozen(self, folder: Path) -> None:
        """Load the frozen layers again, so that the whole model is in memory."""
        self.frozen_weights.restore(folder)

    def loss(
        self, model: nn.Module, targets: mx.array, starts: mx.array, ends: mx.array, *tensors: mx.array
    ) -> mx.array:
        """[] float32 cross entropy summed over supervised positions.

        targets: [B, C] token ids. starts, ends: [B] each row's first supervised position and its number of inputs.
        tensors: the cached tensors, in the order of `cached_tensors`.
        """
        split, width = self.split, targets.shape[1]
        supervised = SupervisedPositions(starts, ends, width)
        by_name = dict(zip((spec.name for spec in split.cached_tensors), tensors, strict=True))
        keys_values: dict[int, KeysValues] = {
            layer: (by_name[f"keys.{layer}"].swapaxes(1, 2), by_name[f"values.{layer}"].swapaxes(1, 2))
            for layer in split.cached_kv_layers
        }
        per_layer = (by_name.get("below"), by_name.get("above"))
        trained = range(split.first_trained, split.num_layers)
        hidden = split.forward_layers(by_name["hidden"], trained, supervised, per_layer, keys_values)
        if split.kv_boundary == split.num_layers:
            hidden = supervised.gather(hidden)
        hidden = split.final_norm(hidden)
        weights = (mx.arange(width) < (ends - starts)[:, None]).astype(mx.float32)
        flat = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1), weights.reshape(-1)
        return self.head_loss.loss(*flat, differentiable=model.training)


def trained_layers_module(model: nn.Module, split: SplitModel) -> nn.Module:
    """A module with the trained layers alone, under the names that they have in the model."""
    chosen = {id(layer) for layer in split.layers[split.first_trained :]}
    top = nn.Module()
    for name, module in model.named_modules():
        if id(module) in chosen:
            *path, number = name.split(".")
            holder = top
            for step in path[:-1]:
                if step not in holder:
                    holder[step] = nn.Module()
                holder = holder[step]
            layers = holder.setdefault(path[-1], [nn.Module() for _ in split.layers])
            layers[int(number)] = module
    return top

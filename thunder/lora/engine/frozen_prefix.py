"""Compute the frozen part of rows (the input of the first trained layer), as one cache entry of bytes for each row."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager

import mlx.core as mx
import numpy as np

from thunder.lora.engine.attention_inputs import NO_SHARED_PREFIX, KeysValues, SharedPrefix, SupervisedPositions
from thunder.lora.engine.linear_layers import rowwise_products
from thunder.lora.engine.padded_sizes import SupervisedSpan, round_up, supervised_span
from thunder.lora.engine.split_model import CachedTensorSpec, SplitModel
from thunder.lora.tokenized_rows import Example

INPUTS_STEP, SUPERVISED_STEP = 16, 8
"""Multiples that a row is padded to: decided by the row alone, so that its numbers do not depend on its batch."""
MAX_POSITIONS = 1024
"""Positions that go through the frozen layers at once."""

_NUMPY_DTYPES = {
    mx.float64: np.dtype(np.float64),
    mx.float32: np.dtype(np.float32),
    mx.float16: np.dtype(np.float16),
    mx.bfloat16: np.dtype(np.uint16),
}


def shared_prefix_ids(examples: Sequence[Example]) -> tuple[int, ...]:
    """The token ids that all examples begin with, before any supervised position; empty for fewer than two examples."""
    if len(examples) < 2:
        return ()
    first = examples[0].ids
    length = min(supervised_span(example).start for example in examples)
    for example in examples[1:]:
        differing = np.flatnonzero(first[:length] != example.ids[:length])
        length = int(differing[0]) if len(differing) else length
    return tuple(int(token) for token in first[:length])


class FrozenPrefix:
    """The frozen layers of a split model, and the cache entries that they make of rows."""

    def __init__(self, split: SplitModel, shared_ids: Sequence[int] = ()) -> None:
        """shared_ids: token ids that rows may begin with; they go through the frozen layers once."""
        self.split = split
        self.shared_ids = np.array(shared_ids, np.int32)
        self._shared: SharedPrefix | None = None
        self._shared_tensors: dict[str, np.ndarray] = {}

    def shared_length(self, example: Example) -> int:
        """How many of a row's positions the shared prefix covers: all of its own or none."""
        length = len(self.shared_ids)
        covered = supervised_span(example).start >= length and np.array_equal(example.ids[:length], self.shared_ids)
        return length if covered else 0

    def entry_key(self, example: Example) -> bytes:
        """[32] SHA-256 of everything but the model that decides a row's entry."""
        span, offset = supervised_span(example), self.shared_length(example)
        head = np.array([span.start, span.inputs, offset], np.int64).tobytes()
        return hashlib.sha256(head + example.ids.astype(np.int32).tobytes()).digest()

    def entry_nbytes(self, example: Example) -> int:
        """Bytes of a row's entry."""
        span, offset = supervised_span(example), self.shared_length(example)
        return sum(_num_positions(spec, span, offset) * _bytes_a_position(spec) for spec in self.split.cached_tensors)

    def unpack_entry(self, example: Example, entry: np.ndarray) -> list[np.ndarray]:
        """An entry's bytes as arrays [positions, ...], in the order of `cached_tensors`; bfloat16 as uint16."""
        span, offset = supervised_span(example), self.shared_length(example)
        arrays, at = [], 0
        for spec in self.split.cached_tensors:
            positions = _num_positions(spec, span, offset)
            nbytes = positions * _bytes_a_position(spec)
            arrays.append(entry[at : at + nbytes].view(_NUMPY_DTYPES[spec.dtype]).reshape(positions, *spec.shape))
            at += nbytes
        return arrays

    def compute_entries(self, examples: Sequence[Example]) -> list[np.ndarray]:
        """The entries [bytes] of rows, in their order; rows of one padded shape are computed together."""
        groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for number, example in enumerate(examples):
            groups[self.padded_shape(example)].append(number)
        entries: list[np.ndarray] = [np.empty(0, np.uint8)] * len(examples)
        for (inputs, width, offset), numbers in sorted(groups.items()):
            rows_at_once = max(1, MAX_POSITIONS // inputs)
            for start in range(0, len(numbers), rows_at_once):
                chosen = numbers[start : start + rows_at_once]
                packed = self._compute_group([examples[number] for number in chosen], inputs, width, offset)
                for number, entry in zip(chosen, packed, strict=True):
                    entries[number] = entry
        return entries

    def padded_shape(self, example: Example) -> tuple[int, int, int]:
        """(inputs after the shared prefix, supervised positions, length of that prefix) that a row is padded to."""
        span, offset = supervised_span(example), self.shared_length(example)
        return round_up(span.inputs - offset, INPUTS_STEP), round_up(span.count, SUPERVISED_STEP), offset

    def shared_prefix(self) -> SharedPrefix:
        """What the frozen layers compute of the shared prefix; computed at the first call."""
        if self._shared is None:
            self._shared = self._compute_shared() if len(self.shared_ids) else NO_SHARED_PREFIX
        return self._shared

    def shared_tensor(self, name: str) -> np.ndarray:
        """[S, ...] the shared prefix's part of a cached tensor that covers all positions; bfloat16 as uint16."""
        if name not in self._shared_tensors:
            self._shared_tensors[name] = _to_numpy(self.shared_prefix().tensors[name])
        return self._shared_tensors[name]

    def drop_shared_prefix(self) -> None:
        """Free the shared prefix's keys and values in frozen layers; arrays of `shared_tensor` stay."""
        self._shared = None

    def _compute_shared(self) -> SharedPrefix:
        split, ids = self.split, mx.array(self.shared_ids)[None]
        with self._rowwise():
            layers = range(min(split.first_trained, split.kv_boundary))
            embedded = split.embed(ids)
            per_layer = split.per_layer_inputs(ids, embedded, 0, split.kv_boundary)
            keys_values: dict[int, KeysValues] = {}
            supervised = SupervisedPositions(mx.array([0]), mx.array([len(self.shared_ids)]), 1)
            hidden = split.forward_layers(
                embedded, layers, supervised, (per_layer, None), keys_values, keep_all_keys_values=True
            )
            if split.first_trained > split.kv_boundary:
                keys_values[split.kv_boundary] = split.project_keys_values(split.kv_boundary, hidden, 0)
        tensors = self._cached_tensors(hidden, (per_layer, None), keys_values, 0)
        mx.eval(keys_values, tensors)
        at_all = {spec.name: tensors[spec.name][0] for spec in split.cached_tensors if spec.positions == "all"}
        return SharedPrefix(tuple(self.shared_ids.tolist()), keys_values, at_all)

    def _compute_group(self, examples: Sequence[Example], inputs: int, width: int, offset: int) -> list[np.ndarray]:
        """The entries of rows that are padded to one shape."""
        specs, ids = self.split.cached_tensors, np.zeros((len(examples), inputs), np.int32)
        spans = [supervised_span(example) for example in examples]
        for number, (example, span) in enumerate(zip(examples, spans, strict=True)):
            ids[number, : span.inputs - offset] = example.ids[offset:-1]
        starts, ends = (mx.array([getattr(span, name) for span in spans]) for name in ("start", "inputs"))
        shared = self.shared_prefix() if offset else NO_SHARED_PREFIX
        tensors = self._forward_frozen(mx.array(ids), SupervisedPositions(starts, ends, width, offset), shared)
        mx.eval([tensors[spec.name] for spec in specs])
        arrays = [_to_numpy(tensors[spec.name]) for spec in specs]
        return [
            np.concatenate(
                [
                    np.ascontiguousarray(array[number, : _num_positions(spec, span, offset)]).reshape(-1).view(np.uint8)
                    for array, spec in zip(arrays, specs, strict=True)
                ]
            )
            for number, span in enumerate(spans)
        ]

    def _forward_frozen(
        self, ids: mx.array, supervised: SupervisedPositions, shared: SharedPrefix
    ) -> dict[str, mx.array]:
        """Name -> cached tensor [B, T, ...] or [B, C, ...] of a group of rows [B, T]."""
        split = self.split
        with self._rowwise():
            embedded = split.embed(ids)
            below = split.per_layer_inputs(ids, embedded, 0, split.kv_boundary)
            above = split.per_layer_inputs(
                supervised.gather(ids), supervised.gather(embedded), split.kv_boundary, split.num_layers
            )
            keys_values: dict[int, KeysValues] = {}
            hidden = split.forward_layers(
                embedded, range(split.first_trained), supervised, (below, above), keys_values, shared
            )
        return self._cached_tensors(hidden, (below, above), keys_values, shared.length)

    def _cached_tensors(
        self,
        hidden: mx.array,
        per_layer: tuple[mx.array | None, mx.array | None],
        keys_values: dict[int, KeysValues],
        offset: int,
    ) -> dict[str, mx.array]:
        """Name -> cached tensor; of keys and values the positions from `offset` on, [B, T, heads, D]."""
        split, tensors = self.split, {"hidden": hidden}
        below, above = per_layer
        if below is not None:
            tensors["below"] = below[:, :, split.first_trained :]
        if above is not None:
            tensors["above"] = above[:, :, max(split.first_trained - split.kv_boundary, 0) :]
        for layer in split.cached_kv_layers:
            for name, array in zip(("keys", "values"), keys_values[layer], strict=True):
                tensors[f"{name}.{layer}"] = array[:, :, offset:].transpose(0, 2, 1, 3)
        return tensors

    def _rowwise(self) -> AbstractContextManager[None]:
        return rowwise_products(self.split.layers[: self.split.first_trained])


def _num_positions(spec: CachedTensorSpec, span: SupervisedSpan, offset: int) -> int:
    return span.count if spec.positions == "supervised" else span.inputs - offset


def _bytes_a_position(spec: CachedTensorSpec) -> int:
    return int(np.prod(spec.shape)) * _NUMPY_DTYPES[spec.dtype].itemsize


def _to_numpy(array: mx.array) -> np.ndarray:
    return np.array(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array)

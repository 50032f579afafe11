"""The frozen part of rows: what enters the first trained layer, computed for many rows, kept as bytes for each."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager

import mlx.core as mx
import numpy as np

from thunder.lora.engine import supervised_positions
from thunder.lora.engine.rowwise import rowwise
from thunder.lora.engine.split_model import NOTHING_SHARED, KeysValues, Part, Places, Shared, Trunk
from thunder.lora.engine.supervised_positions import Span
from thunder.lora.tokenized_rows import Example

INPUTS_STEP, SUPERVISED_STEP = 16, 8
"""What a row is padded to alone: a function of the row, so that its numbers do not depend on its batch-mates."""
POSITIONS_AT_ONCE = 1024

_NUMPY = {
    mx.float64: np.dtype(np.float64),
    mx.float32: np.dtype(np.float32),
    mx.float16: np.dtype(np.float16),
    mx.bfloat16: np.dtype(np.uint16),
}


def common_beginning(examples: Sequence[Example]) -> tuple[int, ...]:
    """The token ids that all examples begin with and none is supervised in or from; empty for fewer than two."""
    if len(examples) < 2:
        return ()
    first = examples[0].ids
    length = min(supervised_positions.of(example).start for example in examples)
    for example in examples[1:]:
        unlike = np.flatnonzero(first[:length] != example.ids[:length])
        length = int(unlike[0]) if len(unlike) else length
    return tuple(int(token) for token in first[:length])


class Prefix:
    """The frozen layers of a trunk, and what they make of rows."""

    def __init__(self, trunk: Trunk, beginning: Sequence[int] = ()) -> None:
        """beginning: token ids that rows may have in common; they go through the frozen layers once."""
        self.trunk = trunk
        self.beginning = np.array(beginning, np.int32)
        self._shared: Shared | None = None
        self._shared_parts: dict[str, np.ndarray] = {}

    def begins(self, example: Example) -> int:
        """How many of a row's positions the common beginning covers: all of its own or none."""
        length = len(self.beginning)
        covered = supervised_positions.of(example).start >= length and np.array_equal(
            example.ids[:length], self.beginning
        )
        return length if covered else 0

    def key(self, example: Example) -> bytes:
        """[32] what decides a row's entry, the model apart."""
        span, begin = supervised_positions.of(example), self.begins(example)
        head = np.array([span.start, span.inputs, begin], np.int64).tobytes()
        return hashlib.sha256(head + example.ids.astype(np.int32).tobytes()).digest()

    def size(self, example: Example) -> int:
        """Bytes of a row's entry."""
        span, begin = supervised_positions.of(example), self.begins(example)
        return sum(self._positions(part, span, begin) * _bytes(part) for part in self.trunk.parts)

    def unpack(self, example: Example, entry: np.ndarray) -> list[np.ndarray]:
        """An entry's bytes as its arrays [positions, ...], in the order of the trunk's parts; bfloat16 as uint16."""
        span, begin = supervised_positions.of(example), self.begins(example)
        arrays, at = [], 0
        for part in self.trunk.parts:
            positions = self._positions(part, span, begin)
            size = positions * _bytes(part)
            arrays.append(entry[at : at + size].view(_NUMPY[part.dtype]).reshape(positions, *part.shape))
            at += size
        return arrays

    def compute(self, examples: Sequence[Example]) -> list[np.ndarray]:
        """The entries [bytes] of rows, in their order; rows of one padded shape go together."""
        groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for number, example in enumerate(examples):
            groups[self.shape(example)].append(number)
        entries: list[np.ndarray] = [np.empty(0, np.uint8)] * len(examples)
        for (inputs, width, begin), numbers in sorted(groups.items()):
            at_once = max(1, POSITIONS_AT_ONCE // inputs)
            for start in range(0, len(numbers), at_once):
                chosen = numbers[start : start + at_once]
                packed = self._group([examples[number] for number in chosen], inputs, width, begin)
                for number, entry in zip(chosen, packed, strict=True):
                    entries[number] = entry
        return entries

    def shape(self, example: Example) -> tuple[int, int, int]:
        """What a row is padded to by itself: inputs behind the common beginning, supervised, and that beginning."""
        span, begin = supervised_positions.of(example), self.begins(example)
        return (
            supervised_positions.up(span.inputs - begin, INPUTS_STEP),
            supervised_positions.up(span.count, SUPERVISED_STEP),
            begin,
        )

    def shared(self) -> Shared:
        """What the common beginning leaves for all rows, computed at the first call."""
        if self._shared is None:
            self._shared = self._share() if len(self.beginning) else NOTHING_SHARED
        return self._shared

    def shared_part(self, name: str) -> np.ndarray:
        """[S, ...] what the common beginning has of a part that lies at all positions; bfloat16 as uint16."""
        if name not in self._shared_parts:
            self._shared_parts[name] = _to_numpy(self.shared().parts[name])
        return self._shared_parts[name]

    def forget_layers(self) -> None:
        """Let go of the common beginning's keys and values in frozen layers; its parts stay."""
        self._shared = None

    def _share(self) -> Shared:
        trunk, ids = self.trunk, mx.array(self.beginning)[None]
        with self._rowwise():
            below = min(trunk.first, trunk.cut)
            embedded = trunk.embed(ids)
            extra = trunk.per_layer(ids, embedded, 0, trunk.cut)
            known: dict[int, KeysValues] = {}
            places = Places(mx.array([0]), mx.array([len(self.beginning)]), 1)
            hidden = trunk.through(embedded, range(below), places, (extra, None), known, remember=True)
            if trunk.first > trunk.cut:
                known[trunk.cut] = trunk.keys_values(trunk.cut, hidden, 0)
        parts = self._parts(hidden, extra, None, known, 0)
        mx.eval(known, parts)
        every = {part.name: parts[part.name][0] for part in trunk.parts if part.positions == "all"}
        return Shared(tuple(self.beginning.tolist()), known, every)

    def _group(self, examples: Sequence[Example], inputs: int, width: int, begin: int) -> list[np.ndarray]:
        trunk, ids = self.trunk, np.zeros((len(examples), inputs), np.int32)
        placed = [supervised_positions.of(example) for example in examples]
        for number, (example, span) in enumerate(zip(examples, placed, strict=True)):
            ids[number, : span.inputs - begin] = example.ids[begin:-1]
        starts, ends = (mx.array([getattr(span, name) for span in placed]) for name in ("start", "inputs"))
        shared = self.shared() if begin else NOTHING_SHARED
        parts = self._lower(mx.array(ids), Places(starts, ends, width, begin), shared)
        names = [part.name for part in trunk.parts]
        mx.eval([parts[name] for name in names])
        arrays = [_to_numpy(parts[name]) for name in names]
        return [
            np.concatenate(
                [
                    np.ascontiguousarray(array[number, : self._positions(part, span, begin)]).reshape(-1).view(np.uint8)
                    for array, part in zip(arrays, trunk.parts, strict=True)
                ]
            )
            for number, span in enumerate(placed)
        ]

    def _lower(self, ids: mx.array, places: Places, shared: Shared) -> dict[str, mx.array]:
        """The parts of a group of rows [B, T, ...] or [B, C, ...]."""
        trunk = self.trunk
        with self._rowwise():
            embedded = trunk.embed(ids)
            below = trunk.per_layer(ids, embedded, 0, trunk.cut)
            above = trunk.per_layer(places.gather(ids), places.gather(embedded), trunk.cut, trunk.count)
            known: dict[int, KeysValues] = {}
            hidden = trunk.through(embedded, range(trunk.first), places, (below, above), known, shared)
        return self._parts(hidden, below, above, known, shared.length)

    def _parts(
        self,
        hidden: mx.array,
        below: mx.array | None,
        above: mx.array | None,
        known: dict[int, KeysValues],
        begin: int,
    ) -> dict[str, mx.array]:
        trunk, parts = self.trunk, {"hidden": hidden}
        if below is not None:
            parts["below"] = below[:, :, trunk.first :]
        if above is not None:
            parts["above"] = above[:, :, max(trunk.first - trunk.cut, 0) :]
        for layer in trunk.kept:
            for name, array in zip(("keys", "values"), known[layer], strict=True):
                parts[f"{name}.{layer}"] = array[:, :, begin:].transpose(0, 2, 1, 3)
        return parts

    def _rowwise(self) -> AbstractContextManager[None]:
        return rowwise(self.trunk.layers[: self.trunk.first])

    @staticmethod
    def _positions(part: Part, span: Span, begin: int) -> int:
        return span.count if part.positions == "supervised" else span.inputs - begin


def _bytes(part: Part) -> int:
    return int(np.prod(part.shape)) * _NUMPY[part.dtype].itemsize


def _to_numpy(array: mx.array) -> np.ndarray:
    return np.array(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array)

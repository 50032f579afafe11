"""Find near duplicates: texts of two splits that share a stretch of `size` characters, by hashes of all stretches.

Each text is read in one normal form (see `comparable_key`) as a sequence of code points. Every window of `size` of them
has a 64-bit polynomial hash, computed for many texts at once. Only the hashes of the held-out texts are kept, 12 bytes
a window, so memory grows with the held-out part and not with the training part. A text shorter than the window has no
hash: `edit_neighbors` finds those that resemble another, and the splits handle equal keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np

from thunder.text.normalize import normalize_for_scoring

SIZE = 20
# texts in a batch, and the index bits of the table that rules out most hashes without a search
BATCH, TABLE_BITS = 8192, 24
# the base is odd, so that its powers do not vanish modulo 2^64; _SPREAD first spreads code points over all bits
_BASE, _SPREAD = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
Item = TypeVar("Item")


def comparable_key(text: str) -> str:
    """Return the compared form of a text: as for scoring across sources (see `comparable`), in lower case."""
    return normalize_for_scoring(text).lower()


def batch_by_length(items: Iterable[Item], size: int = BATCH) -> Iterator[list[Item]]:
    """Yield items in lists of at most `size`."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch


def stretch_hashes(keys: Sequence[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (hash of every window [W], index of its text [W]) of texts, in order; W windows in all."""
    lengths = np.array([len(key) for key in keys], np.int64)
    codes = np.frombuffer("".join(keys).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    if len(codes) < size:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    spread = (codes + np.uint64(1)) * _SPREAD
    spread ^= spread >> np.uint64(31)
    windows = len(codes) - size + 1
    total = np.zeros(windows, np.uint64)
    for at in range(size):  # Horner's rule, for all windows together; overflow is the modulus
        total *= _BASE
        total += spread[at : at + windows]
    total ^= total >> np.uint64(29)
    text = np.repeat(np.arange(len(keys)), lengths)
    inside = text[:windows] == text[size - 1 :]  # a window must not reach into the next text
    return total[inside], text[:windows][inside]


class HeldOutHashes:
    """The windows of held-out texts; looks up which held-out text, if any, shares a window with another text."""

    def __init__(self, size: int = SIZE) -> None:
        assert size > 0
        self.size = size
        self._hashes: list[np.ndarray] = []
        self._owners: list[np.ndarray] = []
        self._sorted: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def add(self, numbers: Sequence[int], keys: Sequence[str]) -> None:
        """Add held-out texts; numbers: their identifiers in answers."""
        hashes, texts = stretch_hashes(keys, self.size)
        self._hashes.append(hashes)
        self._owners.append(np.array(numbers, np.uint32)[texts])
        self._sorted = None

    def shared_with(self, keys: Sequence[str]) -> list[int | None]:
        """Return for each text the number of a held-out text that shares a window with it, or None."""
        table, held_hashes, owners = self._prepared()
        hashes, texts = stretch_hashes(keys, self.size)
        maybe = table[hashes >> np.uint64(64 - TABLE_BITS)]
        hashes, texts = hashes[maybe], texts[maybe]
        answers: list[int | None] = [None] * len(keys)
        if not len(held_hashes):
            return answers
        places = np.minimum(np.searchsorted(held_hashes, hashes), len(held_hashes) - 1)
        same = held_hashes[places] == hashes
        for text, owner in zip(texts[same].tolist(), owners[places[same]].tolist(), strict=True):
            if answers[text] is None:
                answers[text] = owner
        return answers

    def _prepared(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (table of leading bits, sorted hashes, owner of each)."""
        if self._sorted is None:
            hashes = np.concatenate([*self._hashes, np.empty(0, np.uint64)])
            owners = np.concatenate([*self._owners, np.empty(0, np.uint32)])
            order = np.argsort(hashes, kind="stable")
            hashes, owners = hashes[order], owners[order]
            self._hashes, self._owners = [hashes], [owners]
            table = np.zeros(1 << TABLE_BITS, bool)
            table[hashes >> np.uint64(64 - TABLE_BITS)] = True
            self._sorted = table, hashes, owners
        return self._sorted

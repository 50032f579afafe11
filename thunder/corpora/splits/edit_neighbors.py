"""Find texts within a few edits of held-out texts, exactly and without comparing all pairs.

Two texts are near duplicates by edits where their Levenshtein distance, in code points, is at most `allowed_edits` of
the shorter one. Candidates come from an index of the held-out texts; the distance of each candidate pair is measured.

- Texts for which one edit is allowed and that are short: both texts minus one code point (all ways) share a string.
- Longer texts, k edits allowed: a held-out text is cut into k + 1 pieces, and at least one piece is unchanged in a text
  within k edits. If piece number i is the first unchanged one after exactly i edits, it moved by at most i, and by at
  most k - i counted from the end, so a piece is looked up at few places (Li et al., PassJoin, VLDB 2012).

Both are complete: hashes select candidates and never exclude a pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from thunder.text.distance import pairwise_distances

SHARE = 0.1
# texts shorter than this are compared for equality only: one edit makes most short words another word
SHORTEST = 4
# the work for a text grows with the square of its edits; a longer text shares a stretch long before so many differ
MOST_EDITS = 20
# longest text whose deletions are indexed; longer ones have pieces that are long enough to be rare
LONGEST_DELETIONS = 24
TABLE_BITS = 22
# most lookups and candidate pairs handled at once, to bound memory
LOOKUPS, PAIRS = 1 << 21, 1 << 18
_BASE = 0x9E3779B97F4A7C15
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_MASK = (1 << 64) - 1


def allowed_edits(length: int, share: float = SHARE) -> int:
    """Return the most edits between near duplicates, of which the shorter has `length` code points."""
    return min(MOST_EDITS, max(1, int(share * length))) if share and length >= SHORTEST else 0


class EditNeighbors:
    """Held-out texts; looks up which of them, if any, is within the allowed edits of another text.

    share: of the shorter text's code points; 0 finds nothing.
    """

    def __init__(self, share: float = SHARE) -> None:
        self.share = share
        self._numbers: list[int] = []
        self._keys: list[str] = []
        self._lengths: set[int] = set()
        self._tables: dict[str, _HashTable] = {}
        # the longest text whose deletions are looked up instead of its pieces
        lengths = range(SHORTEST, LONGEST_DELETIONS + 1)
        self._top = max((n for n in lengths if allowed_edits(n, share) == 1), default=0)

    def add(self, numbers: Sequence[int], keys: Sequence[str]) -> None:
        """Add held-out texts; numbers: their identifiers in answers."""
        if self.share:
            self._numbers += numbers
            self._keys += keys
            self._tables.clear()

    def near(self, keys: Sequence[str]) -> list[int | None]:
        """Return for each text the number of a held-out text within the allowed edits, or None."""
        answers: list[int | None] = [None] * len(keys)
        if not self._keys:
            return answers
        self._prepare()
        for texts, held in self._candidates(keys):
            open_pairs = [(t, h) for t, h in zip(texts.tolist(), held.tolist(), strict=True) if answers[t] is None]
            for text, owner in self._within(open_pairs, keys):
                if answers[text] is None:
                    answers[text] = self._numbers[owner]
        return answers

    def _within(self, pairs: list[tuple[int, int]], keys: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Yield the pairs (index of a text, index of a held-out text) that are within the allowed edits."""
        if not pairs:
            return
        left, right = [keys[text] for text, _ in pairs], [self._keys[held] for _, held in pairs]
        limits = np.array(
            [allowed_edits(min(len(one), len(other)), self.share) for one, other in zip(left, right, strict=True)]
        )
        found = pairwise_distances(left, right, int(limits.max()))
        for place in np.flatnonzero(found <= limits).tolist():
            yield pairs[place]

    def _prepare(self) -> None:
        if self._tables:
            return
        self._lengths = set(map(len, self._keys))
        deletions, pieces = _HashTable(), _HashTable()
        for length, indices, codes in _by_length(self._keys):
            if SHORTEST <= length <= self._top + 1:
                hashes = _deletion_hashes(codes)
                deletions.add(hashes.ravel(), np.repeat(indices, hashes.shape[1]))
            if length > self._top and (edits := allowed_edits(length, self.share)):
                size = length // (edits + 1)
                windows = _window_hashes(codes, size)
                for piece in range(edits + 1):
                    pieces.add(windows[:, piece * size] + _place_code(length, piece), indices)
        self._tables = {"deletions": deletions.sorted(), "pieces": pieces.sorted()}

    def _candidates(self, keys: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (indices of texts, indices of held-out texts) of pairs to measure; every near pair is among them."""
        for length, indices, codes in _by_length(keys):
            if SHORTEST <= length <= self._top + 1:
                yield from self._tables["deletions"].pairs(indices, _deletion_hashes(codes))
            yield from self._piece_candidates(length, indices, codes)

    def _piece_candidates(
        self, length: int, indices: np.ndarray, codes: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Look up windows of texts of one length at the places where pieces of held-out texts can be."""
        edits = allowed_edits(length, self.share)
        windows: dict[int, np.ndarray] = {}
        # a longer held-out text is within the edits that this length, the shorter one, allows
        for other in range(max(self._top + 1, length - edits), length + edits + 1):
            if other not in self._lengths or not (k := allowed_edits(other, self.share)):
                continue
            size = other // (k + 1)
            places, codes_of_place = _places(length, other, k, size)
            if not places:
                continue
            if size not in windows:
                windows[size] = _window_hashes(codes, size)
            hashes = windows[size][:, places] + np.array(codes_of_place, np.uint64)
            yield from self._tables["pieces"].pairs(indices, hashes)


def _places(length: int, other: int, k: int, size: int) -> tuple[list[int], list[int]]:
    """Return where in a text the pieces of a held-out text of another length can be, and the code of each place."""
    places, codes = [], []
    grown = length - other
    for piece in range(k + 1):
        for shift in range(max(-piece, grown - (k - piece)), min(piece, grown + (k - piece)) + 1):
            start = piece * size + shift
            if 0 <= start <= length - size:
                places.append(start)
                codes.append(int(_place_code(other, piece)))
    return places, codes


def _place_code(length: int, piece: int) -> np.uint64:
    """Return what is added to the hash of a piece, so that only the same piece of texts of one length matches."""
    return np.uint64((length * 1_000_003 + piece + 1) * 0x94D049BB133111EB & _MASK)


def _by_length(keys: Sequence[str]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield (length, indices [T], spread code points [T, length]) of the texts of each length, in bounded pieces."""
    order = sorted(range(len(keys)), key=lambda at: len(keys[at]))
    for length, group in groupby(order, key=lambda at: len(keys[at])):
        indices = list(group)
        if length < SHORTEST:
            continue
        step = max(1, LOOKUPS // (length * 16))
        for start in range(0, len(indices), step):
            some = indices[start : start + step]
            data = "".join(keys[at] for at in some).encode("utf-32-le", "surrogatepass")
            codes = np.frombuffer(data, np.uint32).reshape(len(some), length).astype(np.uint64)
            spread = (codes + np.uint64(1)) * _MIX
            yield length, np.array(some, np.uint32), spread ^ (spread >> np.uint64(31))


def _window_hashes(codes: np.ndarray, size: int) -> np.ndarray:
    """Return the polynomial hash, modulo 2^64, of each window of `size` code points [T, length - size + 1]."""
    windows = codes.shape[1] - size + 1
    total = np.zeros((len(codes), windows), np.uint64)
    for at in range(size):
        total *= np.uint64(_BASE)
        total += codes[:, at : at + windows]
    return total


def _deletion_hashes(codes: np.ndarray) -> np.ndarray:
    """Return the hash of each text and of it without each of its code points [T, length + 1]."""
    texts, length = codes.shape
    powers = np.array([pow(_BASE, exponent, 1 << 64) for exponent in range(length)], np.uint64)
    before = np.zeros((texts, length + 1), np.uint64)
    after = np.zeros((texts, length + 1), np.uint64)
    for at in range(length):
        before[:, at + 1] = before[:, at] * np.uint64(_BASE) + codes[:, at]
    for at in range(length - 1, -1, -1):
        after[:, at] = after[:, at + 1] + codes[:, at] * powers[length - 1 - at]
    shortened = before[:, :-1] * powers[::-1] + after[:, 1:]
    return np.concatenate([before[:, -1:], shortened], axis=1)


class _HashTable:
    """Hashes with owners, sorted, behind a table of leading bits that rules out most lookups."""

    def __init__(self) -> None:
        self._hashes: list[np.ndarray] = []
        self._owners: list[np.ndarray] = []
        self._table = np.zeros(0, bool)

    def add(self, hashes: np.ndarray, owners: np.ndarray) -> None:
        self._hashes.append(_finished(hashes))
        self._owners.append(owners)

    def sorted(self) -> _HashTable:
        hashes = np.concatenate([*self._hashes, np.empty(0, np.uint64)])
        owners = np.concatenate([*self._owners, np.empty(0, np.uint32)]).astype(np.uint32)
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._owners = [hashes[order]], [owners[order]]
        self._table = np.zeros(1 << TABLE_BITS, bool)
        self._table[hashes >> np.uint64(64 - TABLE_BITS)] = True
        return self

    def pairs(self, indices: np.ndarray, hashes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (indices of texts, owners), each pair once a call, for hashes [T, H] of texts."""
        [known], [owners] = self._hashes, self._owners
        step = max(1, LOOKUPS // max(1, hashes.shape[1]))
        for start in range(0, len(indices), step):
            some = _finished(hashes[start : start + step])
            rows, columns = np.nonzero(self._table[some >> np.uint64(64 - TABLE_BITS)])
            wanted = some[rows, columns]
            low = np.searchsorted(known, wanted)
            high = np.searchsorted(known, wanted, side="right")
            yield from _expanded(indices[start : start + step][rows], low, high, owners)


def _expanded(
    texts: np.ndarray, low: np.ndarray, high: np.ndarray, owners: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (texts, owners) for ranges low..high of owners, at most about PAIRS at once, without repeated pairs."""
    found = high > low
    texts, low, counts = texts[found], low[found], (high - low)[found]
    ends = np.cumsum(counts)
    start = 0
    while start < len(texts):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + PAIRS, side="right")))
        repeats = counts[start:stop]
        offsets = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        held = owners[np.repeat(low[start:stop], repeats) + offsets]
        joined = (np.repeat(texts[start:stop], repeats).astype(np.uint64) << np.uint64(32)) | held.astype(np.uint64)
        unique = np.unique(joined)
        yield (unique >> np.uint64(32)).astype(np.int64), (unique & np.uint64(0xFFFFFFFF)).astype(np.int64)
        start = stop


def _finished(hashes: np.ndarray) -> np.ndarray:
    """Return polynomial hashes with their low bits mixed into the high ones, which the table looks at."""
    hashes = hashes ^ (hashes >> np.uint64(29))
    hashes = hashes * _MIX
    return hashes ^ (hashes >> np.uint64(32))

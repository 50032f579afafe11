"""Hold rows out by reference text, so that no reference is both trained on and tested on."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable

from thunder.corpora.rows.chat_rows import ChatRow
from thunder.errors import UsageError
from thunder.text.normalize import normalize_text


def hold_out(
    rows: Iterable[ChatRow],
    fraction: float,
    salt: str,
    key: Callable[[ChatRow], str] | None = None,
    fewest: int = 0,
) -> tuple[list[ChatRow], list[ChatRow]]:
    """Divide rows into (kept, held out), each in input order.

    A row's side depends on its key (its reference text where none is given), the fraction and the salt, and on nothing
    else: rows with one key stay together, rows keep their side when other rows are added or removed, and a larger
    fraction only adds to the held-out side. About `fraction` of the distinct keys are held out; of few rows it can be
    none. fewest: hold out at least so many keys, the first by hash; then a row's side depends on the other rows too.

    Raises UsageError where the fraction is not between 0 and 1.
    """
    if not 0 <= fraction <= 1:
        raise UsageError(f"a fraction of {fraction} cannot be held out", fix="give a fraction between 0 and 1")
    placed = [(row, _position((key or reference_key)(row), salt)) for row in rows]
    first = set(heapq.nsmallest(fewest, {position for _, position in placed})) if fewest else set()
    remaining: list[ChatRow] = []
    held_out: list[ChatRow] = []
    for row, position in placed:
        (held_out if position < fraction or position in first else remaining).append(row)
    return remaining, held_out


def reference_key(reference: ChatRow | str) -> str:
    """Return the form in which equal references are equal: the normal form, trimmed.

    The chat template trims surrounding space, so it does not make another text.
    """
    return normalize_text(reference if isinstance(reference, str) else reference.reference).strip()


def _position(key: str, salt: str) -> float:
    """Return the position of a reference in [0, 1): its salted digest, read as a fraction."""
    # 53 bits are what a float holds exactly; more could round up to 1.0
    return (int.from_bytes(hashlib.sha256(f"{salt}\0{key}".encode()).digest()[:8]) >> 11) / 2**53


PARTS = ("train", "valid", "test")


def text_mark(key: str) -> int:
    """Return 64 bits that represent a text or a name."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8])


def part_of_mark(mark: int, salt: str, valid: float, test: float) -> str:
    """Return the split of a reference by its mark: a share `test` of all marks is test, the next `valid` are valid.

    It depends on nothing else, so a reference is in the same split of every corpus made with the same shares, and a
    larger test share only takes from valid or train. Raises UsageError where nothing is left to train on.
    """
    if valid + test >= 1:
        raise UsageError(f"shares of {valid:g} and {test:g} leave no training rows", fix="hold out less")
    position = _position(f"{mark:016x}", salt)
    return "test" if position < test else "valid" if position < test + valid else "train"


def position_of_mark(mark: int, seed: int) -> int:
    """Return a reference's position in an order that depends on the seed: its mark, mixed."""
    return (mark ^ (seed * 0x9E3779B97F4A7C15)) * 0xBF58476D1CE4E5B9 % (1 << 64) >> 11


class LinkedRows:
    """Rows that must stay together because they share a reference text or a recording, directly or through others.

    Each row is linked by marks; the component of a row is identified by the smallest mark of a reference in it, so that
    it does not depend on the order of rows.
    """

    def __init__(self) -> None:
        self._nodes: dict[int, int] = {}
        self._parents: list[int] = []
        self._marks: list[int] = []

    def add(self, reference: int, audio_id: str | None) -> int:
        """Link a row's reference to its recording; return the node by which `mark` knows the row."""
        node = self._node(reference, reference)
        if audio_id:
            self._join(node, self._node(text_mark(f"audio\0{audio_id}"), reference))
        return node

    def mark(self, node: int) -> int:
        """The smallest reference mark of the component that a node belongs to."""
        return self._marks[self._root(node)]

    def _node(self, mark: int, reference: int) -> int:
        node = self._nodes.setdefault(mark, len(self._parents))
        if node == len(self._parents):
            self._parents.append(node)
            self._marks.append(reference)
        return node

    def _root(self, node: int) -> int:
        while self._parents[node] != node:
            self._parents[node] = node = self._parents[self._parents[node]]
        return node

    def _join(self, root_a: int, root_b: int) -> None:
        root_a, root_b = sorted((self._root(root_a), self._root(root_b)))
        self._parents[root_b] = root_a
        self._marks[root_a] = min(self._marks[root_a], self._marks[root_b])

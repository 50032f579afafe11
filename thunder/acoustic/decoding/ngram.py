"""A character n-gram with Witten-Bell smoothing: estimated from counts, and walked as a graph of labels.

p(w | h) = (c(hw) + T(h) p(w | h')) / (c(h) + T(h)), where c counts, T(h) is the number of different characters after
h, and h' is h without its first character; below the unigrams every character has the same share (Witten and Bell
1991; Chen and Goodman 1998, section 2.5). So every character of the alphabet may follow anywhere, seen or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log

import numpy as np

from thunder.acoustic.decoding.label_graph import LabelGraph
from thunder.errors import ModelError, UsageError

# how ARPA files write the beginning and the end of a text, a space, and whatever the model does not know
BEGIN, END, SPACE, UNKNOWN = "<s>", "</s>", "<space>", "<unk>"
NEVER = -99.0  # log10 of what is only ever given, never foretold
LN_10 = log(10.0)


@dataclass(frozen=True)
class Table:
    """The n-grams of one order n, each packed into one integer, ascending; log10 of probability and of back-off."""

    keys: np.ndarray
    log10: np.ndarray
    backoff: np.ndarray

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The places of keys; -1 for those that are not there."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        places = np.searchsorted(self.keys, keys)
        places[places == len(self.keys)] = 0
        return np.where(self.keys[places] == keys, places, -1)


@dataclass(frozen=True)
class Ngram:
    """tables[n - 1] holds the n-grams; symbols: what they are made of, sorted.

    A key is the number that the symbols' places make as digits in base len(symbols).
    """

    symbols: tuple[str, ...]
    tables: tuple[Table, ...]

    @property
    def order(self) -> int:
        """The longest n."""
        return len(self.tables)

    def row(self, context: tuple[int, int]) -> np.ndarray:
        """log10 of the probabilities of every symbol [S] after a context (its length n, its key)."""
        length, key = context
        if length == 0:
            return self.tables[0].log10.copy()
        size = len(self.symbols)
        found = self.row((length - 1, key % size ** (length - 1)))
        if (place := self.tables[length - 1].find(np.array([key]))[0]) < 0:
            return found
        found += self.tables[length - 1].backoff[place]
        longer = self.tables[length]
        first, last = np.searchsorted(longer.keys, [key * size, (key + 1) * size])
        found[longer.keys[first:last] - key * size] = longer.log10[first:last]
        return found

    def after(self, context: tuple[int, int]) -> list[tuple[int, int]]:
        """The contexts that each of S symbols makes of a context: the longest that there are."""
        length, key = context
        size = len(self.symbols)
        lengths, keys = np.zeros(size, np.int64), np.zeros(size, np.int64)
        for longer in range(1, min(length + 1, self.order - 1) + 1):
            made = key % size ** (longer - 1) * size + np.arange(size)
            there = self.tables[longer - 1].find(made) >= 0
            lengths[there], keys[there] = longer, made[there]
        return list(zip(lengths.tolist(), keys.tolist(), strict=True))

    def over(self, labels: Sequence[str]) -> LabelGraph:
        """The model as a graph over the blank and then these labels, such as those of an alphabet; weights in nats.

        Raises ModelError naming the labels that it does not know, unless it has <unk>.
        """
        names = [SPACE if label == " " else label for label in labels]
        place = {symbol: at for at, symbol in enumerate(self.symbols)}
        strangers = [name for name in names if name not in place and UNKNOWN not in place]
        if strangers:
            raise ModelError(
                f"the n-gram knows no {', '.join(map(repr, strangers))}",
                fix="make one of the same script: thunder asr ngram TEXT --script nko|latin --out x.arpa",
            )
        taken = np.array([place.get(name, place.get(UNKNOWN, 0)) for name in names])
        end, begin = place[END], (1, place[BEGIN]) if self.order > 1 else (0, 0)

        def arcs(context: tuple[int, int]) -> tuple[np.ndarray, list[tuple[int, int]]]:
            after = self.after(context)
            weights = np.concatenate([[-np.inf], self.row(context)[taken] * LN_10])
            return weights, [context, *(after[symbol] for symbol in taken)]

        return LabelGraph(len(names) + 1, begin, arcs, lambda context: float(self.row(context)[end]) * LN_10)


@dataclass(frozen=True)
class Fit:
    """How well a model foretells texts: log10 of their probability, over characters and the ends of texts."""

    log10: float
    symbols: int

    @property
    def perplexity(self) -> float:
        """The number of characters that it hesitates between; 1 if it is always sure."""
        return 10.0 ** (-self.log10 / self.symbols) if self.symbols else 1.0


def fit(model: Ngram, labels: Sequence[str], texts: Iterable[Sequence[int]]) -> Fit:
    """The fit to texts of label ids, 1 being the first label."""
    graph, total, count = model.over(labels), 0.0, 0
    for text in texts:
        total += graph.weight(text) / LN_10
        count += len(text) + 1
    return Fit(total, count)


def estimate(labels: Sequence[str], texts: Iterable[Sequence[int]], order: int) -> Ngram:
    """An n-gram of the order over these labels from texts of label ids, 1 being the first label.

    Raises UsageError for an order that n-grams of so many labels cannot have in 63 bits, and where there is no text.
    """
    symbols = tuple(sorted([BEGIN, END, *(SPACE if label == " " else label for label in labels)]))
    size = len(symbols)
    most = int(63 // np.log2(size))
    if not 1 <= order <= most:
        raise UsageError(f"order {order} with {size} symbols", fix=f"an order of 1 to {most}")
    place = {symbol: at for at, symbol in enumerate(symbols)}
    ids = np.array([place[END], *(place[SPACE if label == " " else label] for label in labels)])
    begin = np.array([place[BEGIN]])
    # the end stands where the labels have their blank
    pieces = [piece for text in texts for piece in (begin, ids[[*text, 0]])]
    if not pieces:
        raise UsageError("there is no text to count", fix="give files with text in the script that you name")
    stream = np.concatenate(pieces).astype(np.int64)
    counted = list(_counts(stream, place[END], size, order))
    tables = [_unigrams(*counted[0], size, place[BEGIN])]
    for keys, counts in counted[1:]:
        tables[-1:] = _smoothed(tables[-1], keys, counts, size, len(tables))
    return Ngram(symbols, tuple(tables))


def _counts(stream: np.ndarray, end: int, size: int, order: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """(keys, counts) of the n-grams of each order that lie within one text of the stream."""
    keys, whole = stream, np.ones(len(stream), bool)
    for n in range(1, order + 1):
        if n > 1:
            whole = whole[:-1] & (stream[n - 2 : -1] != end)
            keys = keys[:-1] * size + stream[n - 1 :]
        yield np.unique(keys[whole], return_counts=True)


def _unigrams(keys: np.ndarray, counts: np.ndarray, size: int, begin: int) -> Table:
    """Smoothed with equal shares for all symbols but the beginning, which is never foretold."""
    seen = np.zeros(size)
    seen[keys] = counts
    seen[begin] = 0.0
    kinds = np.count_nonzero(seen)
    shares = (seen + kinds / (size - 1)) / (seen.sum() + kinds)
    shares[begin] = 10.0**NEVER
    return Table(np.arange(size), np.log10(shares), np.zeros(size))


def _smoothed(lower: Table, keys: np.ndarray, counts: np.ndarray, size: int, order: int) -> tuple[Table, Table]:
    """The lower order with its back-offs, and the n-grams of `order` + 1 with these counts."""
    contexts, group = np.unique(keys // size, return_inverse=True)
    kinds = np.bincount(group)
    totals = np.bincount(group, weights=counts) + kinds
    shorter = 10.0 ** lower.log10[lower.find(keys % size**order)]
    backoff = np.zeros(len(lower.keys))
    backoff[lower.find(contexts)] = np.log10(kinds / totals)
    shares = (counts + kinds[group] * shorter) / totals[group]
    return Table(lower.keys, lower.log10, backoff), Table(keys, np.log10(shares), np.zeros(len(keys)))

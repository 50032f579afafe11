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

# symbols of ARPA files for the beginning and the end of a text, a space, and unknown symbols
BEGIN, END, SPACE, UNKNOWN = "<s>", "</s>", "<space>", "<unk>"
LOG10_ZERO = -99.0  # log10 probability of symbols that are context only and never predicted
LN_10 = log(10.0)


@dataclass(frozen=True)
class NgramTable:
    """The n-grams of one order, each packed into one integer, ascending; log10 of probability and of back-off
    weight.
    """

    keys: np.ndarray
    log10: np.ndarray
    backoff: np.ndarray

    def find_keys(self, keys: np.ndarray) -> np.ndarray:
        """Indices of the keys; -1 for keys that the table lacks."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        positions = np.searchsorted(self.keys, keys)
        positions[positions == len(self.keys)] = 0
        return np.where(self.keys[positions] == keys, positions, -1)


@dataclass(frozen=True)
class Ngram:
    """tables[n - 1] holds the n-grams of order n; symbols: sorted.

    A key is the number whose digits in base len(symbols) are the symbols' indices.
    """

    symbols: tuple[str, ...]
    tables: tuple[NgramTable, ...]

    @property
    def order(self) -> int:
        """The longest n."""
        return len(self.tables)

    def log10_probs(self, context: tuple[int, int]) -> np.ndarray:
        """log10 of the probabilities of every symbol [S] after a context (its length n, its key)."""
        length, key = context
        if length == 0:
            return self.tables[0].log10.copy()
        size = len(self.symbols)
        log10_probs = self.log10_probs((length - 1, key % size ** (length - 1)))
        if (position := self.tables[length - 1].find_keys(np.array([key]))[0]) < 0:
            return log10_probs
        log10_probs += self.tables[length - 1].backoff[position]
        longer = self.tables[length]
        first, last = np.searchsorted(longer.keys, [key * size, (key + 1) * size])
        log10_probs[longer.keys[first:last] - key * size] = longer.log10[first:last]
        return log10_probs

    def next_contexts(self, context: tuple[int, int]) -> list[tuple[int, int]]:
        """For each of S symbols, the longest known context after `context` and the symbol."""
        length, key = context
        size = len(self.symbols)
        lengths, keys = np.zeros(size, np.int64), np.zeros(size, np.int64)
        for order in range(1, min(length + 1, self.order - 1) + 1):
            candidates = key % size ** (order - 1) * size + np.arange(size)
            exists = self.tables[order - 1].find_keys(candidates) >= 0
            lengths[exists], keys[exists] = order, candidates[exists]
        return list(zip(lengths.tolist(), keys.tolist(), strict=True))

    def as_label_graph(self, labels: Sequence[str]) -> LabelGraph:
        """The model as a graph over the blank and then these labels, such as those of an alphabet; weights in nats.

        Raises ModelError with the unknown labels, unless the model has <unk>.
        """
        names = [SPACE if label == " " else label for label in labels]
        index = {symbol: position for position, symbol in enumerate(self.symbols)}
        unknown = [name for name in names if name not in index and UNKNOWN not in index]
        if unknown:
            raise ModelError(
                f"the n-gram has no {', '.join(map(repr, unknown))}",
                fix="train one for the same script: thunder asr ngram TEXT --script nko|latin --out x.arpa",
            )
        label_symbols = np.array([index.get(name, index.get(UNKNOWN, 0)) for name in names])
        end, begin = index[END], (1, index[BEGIN]) if self.order > 1 else (0, 0)

        def arcs(context: tuple[int, int]) -> tuple[np.ndarray, list[tuple[int, int]]]:
            contexts = self.next_contexts(context)
            weights = np.concatenate([[-np.inf], self.log10_probs(context)[label_symbols] * LN_10])
            return weights, [context, *(contexts[symbol] for symbol in label_symbols)]

        return LabelGraph(len(names) + 1, begin, arcs, lambda context: float(self.log10_probs(context)[end]) * LN_10)


@dataclass(frozen=True)
class NgramFit:
    """Log10 probability of texts under a model, and the number of predicted symbols: characters and text ends."""

    log10: float
    symbols: int

    @property
    def perplexity(self) -> float:
        """Perplexity per character; 1 if every prediction is certain."""
        return 10.0 ** (-self.log10 / self.symbols) if self.symbols else 1.0


def measure_fit(model: Ngram, labels: Sequence[str], texts: Iterable[Sequence[int]]) -> NgramFit:
    """The fit to texts of label ids; id 1 is the first label."""
    graph, total, count = model.as_label_graph(labels), 0.0, 0
    for text in texts:
        total += graph.text_weight(text) / LN_10
        count += len(text) + 1
    return NgramFit(total, count)


def estimate_ngram(labels: Sequence[str], texts: Iterable[Sequence[int]], order: int) -> Ngram:
    """Estimate an n-gram over these labels from texts of label ids; id 1 is the first label.

    Raises UsageError if the order does not fit 63-bit keys for so many labels, and if there is no text.
    """
    symbols = tuple(sorted([BEGIN, END, *(SPACE if label == " " else label for label in labels)]))
    size = len(symbols)
    max_order = int(63 // np.log2(size))
    if not 1 <= order <= max_order:
        raise UsageError(f"order {order} with {size} symbols", fix=f"an order of 1 to {max_order}")
    index = {symbol: position for position, symbol in enumerate(symbols)}
    ids = np.array([index[END], *(index[SPACE if label == " " else label] for label in labels)])
    begin = np.array([index[BEGIN]])
    # </s> has the id of the blank
    pieces = [piece for text in texts for piece in (begin, ids[[*text, 0]])]
    if not pieces:
        raise UsageError("there is no text to count", fix="give files with text in the script that you name")
    stream = np.concatenate(pieces).astype(np.int64)
    counts_by_order = list(_count_ngrams(stream, index[END], size, order))
    tables = [_smooth_unigrams(*counts_by_order[0], size, index[BEGIN])]
    for keys, counts in counts_by_order[1:]:
        tables[-1:] = _smooth_order(tables[-1], keys, counts, size, len(tables))
    return Ngram(symbols, tuple(tables))


def _count_ngrams(stream: np.ndarray, end: int, size: int, order: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """(keys, counts) of the n-grams of each order that lie within one text of the stream."""
    keys, within_text = stream, np.ones(len(stream), bool)
    for n in range(1, order + 1):
        if n > 1:
            within_text = within_text[:-1] & (stream[n - 2 : -1] != end)
            keys = keys[:-1] * size + stream[n - 1 :]
        yield np.unique(keys[within_text], return_counts=True)


def _smooth_unigrams(keys: np.ndarray, counts: np.ndarray, size: int, begin: int) -> NgramTable:
    """Unigrams, smoothed with a uniform distribution over all symbols but <s>, which is never predicted."""
    observed = np.zeros(size)
    observed[keys] = counts
    observed[begin] = 0.0
    kinds = np.count_nonzero(observed)
    shares = (observed + kinds / (size - 1)) / (observed.sum() + kinds)
    shares[begin] = 10.0**LOG10_ZERO
    return NgramTable(np.arange(size), np.log10(shares), np.zeros(size))


def _smooth_order(
    lower: NgramTable, keys: np.ndarray, counts: np.ndarray, size: int, order: int
) -> tuple[NgramTable, NgramTable]:
    """The lower order with back-off weights, and the n-grams of `order` + 1 with these counts."""
    contexts, group = np.unique(keys // size, return_inverse=True)
    kinds = np.bincount(group)
    totals = np.bincount(group, weights=counts) + kinds
    shorter = 10.0 ** lower.log10[lower.find_keys(keys % size**order)]
    backoff = np.zeros(len(lower.keys))
    backoff[lower.find_keys(contexts)] = np.log10(kinds / totals)
    shares = (counts + kinds[group] * shorter) / totals[group]
    return NgramTable(lower.keys, lower.log10, backoff), NgramTable(keys, np.log10(shares), np.zeros(len(keys)))

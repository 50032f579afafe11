"""The padded sizes have the least padding that brute force finds; spans and rounding."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.corpora.rows.chat_rows import ChatRow
from thunder.lora.engine.padded_sizes import PaddedSizes, best_padded_sizes, round_up, supervised_span
from thunder.lora.tokenized_rows import Example


@settings(max_examples=60)
@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=12), most=st.integers(1, 4))
def test_the_sizes_pad_least(counts, most):
    sizes = best_padded_sizes(counts, most, 4)
    candidates = sorted({round_up(count, 4) for count in counts})

    def padded(chosen):
        return sum(min(size for size in chosen if size >= count) for count in counts)

    choices = [
        chosen for n in range(1, most + 1) for chosen in combinations(candidates, n) if chosen[-1] == candidates[-1]
    ]
    assert len(sizes) <= most and padded(sizes) == min(map(padded, choices))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 90)), min_size=1, max_size=30), st.integers(0, 2**30))
def test_a_batch_fits_its_size_and_there_are_few(lengths, seed):
    sizes = PaddedSizes(lengths, most=3)
    draw = np.random.default_rng(seed)
    used = set()
    for _ in range(10):
        batch = [lengths[place] for place in draw.integers(0, len(lengths), 4)]
        main, other = sizes.size_for_batch(batch)
        assert all(m <= main and o <= other for m, o in batch)
        used.add((main, other))
    assert len(used) <= 3


def test_the_supervised_span_of_a_row():
    """The first token has no predecessor to be predicted from, so a span never starts before position 0."""
    row, ids = ChatRow((), "test", "test"), np.arange(9, dtype=np.int32)
    span = supervised_span(Example(ids, 5, row))
    assert (span.start, span.inputs, span.count) == (4, 8, 4) and span.count == Example(ids, 5, row).supervised
    assert supervised_span(Example(ids, 0, row)) == supervised_span(Example(ids, 1, row))

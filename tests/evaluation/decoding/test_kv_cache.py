"""Rows that go on from a place in others, against models that read each row as a whole."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.models.cache import (
    ArraysCache,
    ChunkedKVCache,
    KVCache,
    QuantizedKVCache,
    RotatingKVCache,
    make_prompt_cache,
)
from random_models import KINDS, VOCABULARY, random_model

from thunder.evaluation.decoding import kv_cache

TOKENS = st.integers(1, VOCABULARY - 1)


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return random_model(request.param)


def whole(model, row):
    """Logits [T, V] of one row, read at once by mlx_lm's way."""
    return np.array(model(mx.array([row]), cache=make_prompt_cache(model))[0])


def drawn(count, seed):
    return np.random.default_rng(seed).integers(1, VOCABULARY, count).tolist()


@pytest.mark.expensive
@settings(max_examples=6)
@given(st.lists(st.tuples(st.integers(0, 29), st.lists(TOKENS, min_size=1, max_size=12)), min_size=1, max_size=4))
def test_rows_that_go_on_from_one_are_what_they_are_as_a_whole(model, branches):
    trunk = drawn(29, 0)
    caches = kv_cache.empty_caches(model, 1)
    kv_cache.extend_caches(model, caches, [trunk])
    lengths, rests = [length for length, _ in branches], [rest for _, rest in branches]
    logits = kv_cache.extend_caches(model, kv_cache.fork_caches(caches, [0] * len(lengths), lengths), rests)
    for found, length, rest in zip(np.array(logits), lengths, rests, strict=True):
        wanted = whole(model, trunk[:length] + rest)[length:]
        np.testing.assert_allclose(found[: len(rest)], wanted, atol=1e-9)


def test_forks_of_forks_of_unlike_rows(model):
    """Rows of unlike lengths, each forked into several from unlike places, and those once more."""
    caches, rows = kv_cache.empty_caches(model, 3), [drawn(12, 1), drawn(3, 2), drawn(25, 3)]
    kv_cache.extend_caches(model, caches, rows)
    for seed, (chosen, lengths) in enumerate([([2, 0, 1, 2], [17, 12, 1, 25]), ([0, 0, 3, 2, 1], [17, 29, 25, 1, 19])]):
        caches = kv_cache.fork_caches(caches, chosen, lengths)
        rests = [drawn(count, 10 * seed + count) for count in (14, 7, 1, 5, 2)][: len(chosen)]
        logits = np.array(kv_cache.extend_caches(model, caches, rests))
        rows = [rows[row][:length] + rest for row, length, rest in zip(chosen, lengths, rests, strict=True)]
        for found, row, rest in zip(logits, rows, rests, strict=True):
            np.testing.assert_allclose(found[: len(rest)], whole(model, row)[-len(rest) :], atol=1e-9)


def test_what_is_forked_stays_as_it_is(model):
    """Those that go on write to their own keys and values, token by token and many at once."""
    caches, row = kv_cache.empty_caches(model, 1), drawn(20, 4)
    kv_cache.extend_caches(model, caches, [row])
    before = [np.array(array) for cache in caches for array in (cache.keys, cache.values)]
    for length in (20, 20, 11):
        new = kv_cache.fork_caches(caches, [0], [length])
        for rest in ([5], [6, 7, 8], [9]):
            mx.eval(model(mx.array([rest]), cache=new))
    after = [np.array(array) for cache in caches for array in (cache.keys, cache.values)]
    for old, now in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, now)


@pytest.mark.parametrize("cache, lacking", [
    (KVCache(), None), (RotatingKVCache(8), None), (RotatingKVCache(8, keep=4), "RotatingKVCache"),
    (ArraysCache(2), "ArraysCache"), (ChunkedKVCache(8), "ChunkedKVCache"), (QuantizedKVCache(), "QuantizedKVCache"),
])  # fmt: skip
def test_caches_that_cannot_be_forked_are_named(cache, lacking):
    class Model:
        def make_cache(self):
            return [KVCache(), cache]

    assert kv_cache.unsupported_cache(Model()) == lacking

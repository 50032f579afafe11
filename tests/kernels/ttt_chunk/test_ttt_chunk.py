"""The chunk update against float64 loops, finite differences and MLX's own delta rule; causality, streaming, reset."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
import ttt_oracle as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.errors import UsageError
from thunder.kernels.ttt_chunk import ttt_chunk

ORDERS = [(False, False), (True, False), (False, True), (True, True)]
orders = pytest.mark.parametrize(("inclusive", "hebbian"), ORDERS)


def run(arrays, **options):
    *five, retention = map(mx.array, arrays)
    return ttt_chunk(*five, retention=retention, backend="reference", **options)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 999),
    rows=st.integers(1, 3),
    length=st.integers(1, 40),
    heads=st.integers(1, 3),
    width=st.integers(1, 9),
    values=st.integers(1, 9),
    size=st.integers(1, 20),
    order=st.sampled_from(ORDERS),
)
def test_forward_equals_the_loops(seed, rows, length, heads, width, values, size, order):
    arrays = oracle.random_arrays(seed, rows, length, heads, width, values)
    actual = run(arrays, chunk_size=size, inclusive=order[0], hebbian=order[1])
    expected = oracle.ttt_update(*arrays, size, *order)
    for array, reference in zip(actual, expected, strict=True):
        np.testing.assert_allclose(np.array(array), reference, atol=2e-5 * max(1.0, np.abs(reference).max()))


def test_a_change_leaves_every_output_before_its_chunks_end_bit_equal():
    q, k, v, eta, state, retention = oracle.random_arrays(2, length=64)
    before, _ = run((q, k, v, eta, state, retention))
    for which in (1, 2, 3):
        arrays = [q, k.copy(), v.copy(), eta.copy(), state, retention]
        arrays[which][:, 20:] += 1.0
        after, _ = run(arrays)
        changed = np.array(mx.any(before != after, axis=(0, 2, 3)))
        assert not changed[:32].any() and changed[32:].all()


def test_the_inclusive_order_sees_its_own_frame_and_no_later_one():
    q, k, v, eta, state, retention = oracle.random_arrays(2, length=64)
    before, _ = run((q, k, v, eta, state, retention), inclusive=True)
    later = v.copy()
    later[:, 20:] += 1.0
    changed = np.array(mx.any(before != run((q, k, later, eta, state, retention), inclusive=True)[0], axis=(0, 2, 3)))
    assert not changed[:20].any() and changed[20:].all()


@orders
def test_streaming_in_pieces_equals_the_whole_bit_for_bit(inclusive, hebbian):
    q, k, v, eta, state, retention = oracle.random_arrays(3, length=75)
    options = {"inclusive": inclusive, "hebbian": hebbian}
    whole, last = run((q, k, v, eta, state, retention), **options)
    pieces, begin = [], 0
    for end in (16, 48, 64, 75):
        part = (x[:, begin:end] for x in (q, k, v, eta))
        y, state = run((*part, state, retention), **options)
        pieces.append(y)
        begin = end
    assert mx.array_equal(mx.concatenate(pieces, 1), whole) and mx.array_equal(state, last)


def test_chunks_of_one_frame_are_the_delta_rule_of_mlx():
    q, k, v, eta, state, _ = map(mx.array, oracle.random_arrays(4, 2, 40, 2, 64, 64))
    y, last = ttt_chunk(q, k, v, eta, state, chunk_size=1, inclusive=True, backend="reference")
    expected, expected_last = mx.fast.gated_delta_update(q, k, v, mx.ones_like(eta), eta, state.swapaxes(-1, -2))
    assert mx.abs(y - expected).max() < 1e-5 and mx.abs(last - expected_last.swapaxes(-1, -2)).max() < 1e-5


def test_an_utterance_knows_nothing_of_its_neighbours():
    arrays = oracle.random_arrays(5, rows=4)
    order = np.array([2, 0, 3, 1])
    y, state = run(arrays)
    permuted_y, permuted_state = run([x[order] for x in arrays[:5]] + [arrays[5]])
    assert mx.array_equal(permuted_y, y[mx.array(order)])
    assert mx.array_equal(permuted_state, state[mx.array(order)])


def test_without_steps_nothing_is_learnt():
    q, k, v, eta, state, _ = oracle.random_arrays(6)
    y, last = ttt_chunk(*map(mx.array, (q, k, v, 0 * eta, state)), backend="reference")
    assert mx.array_equal(last, mx.array(state))
    np.testing.assert_allclose(np.array(y), np.einsum("bthd,bhde->bthe", q, state), atol=1e-5)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_half_precision_inputs_keep_a_float32_state(dtype):
    arrays = oracle.random_arrays(7, length=40)
    halves = [mx.array(x).astype(dtype) for x in arrays[:3]]
    rest = list(map(mx.array, arrays[3:5]))
    y, last = ttt_chunk(*halves, *rest, backend="reference")
    exact = [np.array(x.astype(mx.float32)) for x in halves]
    expected, expected_last = oracle.ttt_update(*exact, *arrays[3:5], np.ones(2), 16)
    assert y.dtype == dtype and last.dtype == mx.float32
    np.testing.assert_allclose(np.array(last), expected_last, atol=1e-5)
    np.testing.assert_allclose(np.array(y.astype(mx.float32)), expected, rtol=1e-2, atol=1e-2)
    gradient = mx.grad(lambda q: ttt_chunk(q, *halves[1:], *rest, backend="reference")[0].astype(mx.float32).sum())
    assert gradient(halves[0]).dtype == dtype


@pytest.mark.parametrize("which", range(5))
def test_arrays_that_do_not_fit_are_refused(which):
    arrays = list(map(mx.array, oracle.random_arrays(10)[:5]))
    arrays[which] = arrays[which][..., :-1]
    with pytest.raises(UsageError, match="inconsistent shapes"):
        ttt_chunk(*arrays)


@pytest.mark.parametrize("options", [{"chunk_size": 0}, {"retention": mx.ones((3,))}, {"backend": "cpu"}])
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(UsageError):
        ttt_chunk(*map(mx.array, oracle.random_arrays(11)[:5]), **options)

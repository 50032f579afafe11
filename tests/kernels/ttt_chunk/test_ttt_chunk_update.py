"""The update's own gradient against float64 differences, its memory, and compiled steps."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
import ttt_oracle as oracle

from thunder.kernels.ttt_chunk import ttt_chunk

ORDERS = [(False, False), (True, False), (False, True), (True, True)]

orders = pytest.mark.parametrize(("inclusive", "hebbian"), ORDERS)


@orders
@pytest.mark.parametrize(("length", "size"), [(37, 16), (50, 7), (9, 1), (5, 16)])
def test_gradients_equal_float64_differences(inclusive, hebbian, length, size):
    arrays = oracle.random_arrays(length, 2, length, 2, 8, 6)
    draw = np.random.default_rng(1)
    weight_y, weight_state = draw.standard_normal(arrays[2].shape), draw.standard_normal(arrays[4].shape)

    def loss(*arrays):
        *five, retention = arrays
        options = {"chunk_size": size, "inclusive": inclusive, "hebbian": hebbian, "backend": "reference"}
        y, state = ttt_chunk(*five, retention=retention, **options)
        return (y * mx.array(weight_y, mx.float32)).sum() + (state * mx.array(weight_state, mx.float32)).sum()

    def exact(arrays):
        y, state = oracle.ttt_update(*arrays, size, inclusive, hebbian)
        return (y * weight_y).sum() + (state * weight_state).sum()

    gradients = mx.grad(loss, argnums=range(6))(*map(mx.array, arrays))
    for which, gradient in enumerate(gradients):
        gradient = np.array(gradient)
        for flat in draw.choice(arrays[which].size, min(6, arrays[which].size), replace=False):
            place = np.unravel_index(flat, arrays[which].shape)
            ends = []
            for nudge in (1e-5, -1e-5):
                moved = [x.astype(np.float64) for x in arrays]
                moved[which][place] += nudge
                ends.append(exact(moved))
            slope = (ends[0] - ends[1]) / 2e-5
            assert gradient[place] == pytest.approx(slope, rel=1e-4, abs=1e-4), (which, place)


@pytest.mark.expensive
def test_memory_of_the_gradient_grows_with_the_root_of_the_chunks():
    def peak(length):
        q, k, v, eta, state, _ = map(mx.array, oracle.random_arrays(8, 1, length, 1, 64, 64))
        mx.eval(q, k, v, eta, state)
        start = mx.get_active_memory()
        mx.reset_peak_memory()
        mx.eval(
            mx.grad(lambda *x: ttt_chunk(*x, chunk_size=1, backend="reference")[0].sum(), argnums=range(5))(
                q, k, v, eta, state
            )
        )
        return mx.get_peak_memory() - start, length * state.nbytes

    used, every_state = peak(4096)
    assert used < every_state / 5  # the root takes an eighth, as MLX frees; all, forwards and backwards, would be 2


@pytest.mark.expensive
def test_compiled_and_plain_steps_are_equal():
    arrays = list(map(mx.array, oracle.random_arrays(9)[:5]))
    step = mx.value_and_grad(lambda *x: (ttt_chunk(*x)[0] ** 2).sum(), argnums=range(5))
    plain, compiled = step(*arrays), mx.compile(step)(*arrays)
    for array, reference in zip((plain[0], *plain[1]), (compiled[0], *compiled[1]), strict=True):
        assert mx.allclose(array, reference, atol=1e-5)

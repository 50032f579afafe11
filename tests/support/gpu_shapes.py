"""The shapes at which the GPU texts are compared with the reference, and a way to run them in a lane."""

from __future__ import annotations

from dataclasses import dataclass

import ctc_oracle
import mlx.core as mx
import numpy as np
import pytest
import ttt_oracle
from emulator.lane import COMPILER, ORDERS

from thunder.kernels import dispatch, gpu_launch
from thunder.kernels.ctc import ctc_loss
from thunder.kernels.ctc import gpu as ctc_gpu
from thunder.kernels.ttt_chunk import gpu as ttt_gpu
from thunder.kernels.ttt_chunk import ttt_chunk

KERNELS = [ttt_gpu.FORWARD, ttt_gpu.BACKWARD, ctc_gpu.SWEEP, ctc_gpu.GRADIENT]

kernels = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)

needs_compiler = pytest.mark.skipif(not COMPILER, reason="neither clang++ nor g++ is installed")


@dataclass(frozen=True)
class TttCase:
    """One call of ttt_chunk."""

    width: int
    size: int
    rows: int
    length: int
    heads: int
    values: int
    inclusive: bool = False
    hebbian: bool = False
    dtype: mx.Dtype = mx.float32


def ttt_cases() -> list[TttCase]:
    """42 shapes: widths 32 to 256, chunks of 1 to 32, ragged last chunks and rows, every option, half types."""
    variants = [
        (32, 16, False, mx.float32), (64, 16, False, mx.float32), (64, 1, False, mx.float32),
        (96, 7, True, mx.float32), (128, 16, False, mx.float16), (256, 16, False, mx.float32),
        (64, 16, True, mx.bfloat16),
    ]  # fmt: skip
    frames = [(1, 37, 2, 40), (2, 16, 1, 32), (1, 5, 1, 1), (3, 33, 1, 64), (1, 1, 2, 33), (2, 50, 2, 17)]
    return [
        TttCase(width, size, *frame, inclusive=(index % 2 == 1), hebbian=hebbian, dtype=kind)
        for width, size, hebbian, kind in variants
        for index, frame in enumerate(frames)
    ]


def ctc_cases() -> list[tuple[int, int, int, int]]:
    """42 of (rows, T, U, V): no labels, one frame, more states than a SIMD-group, than the gradient's group; wide V."""
    narrow = [
        (rows, length, longest, size)
        for rows in (1, 3)
        for length in (1, 2, 17, 33)
        for longest, size in ((0, 2), (3, 5), (9, 70))
    ]
    wide = [
        (rows, length, longest, size)
        for rows in (1, 2)
        for length in (40, 70, 90)
        for longest, size in ((15, 5), (16, 66), (31, 12))
    ]
    return narrow + wide


def use_lane(monkeypatch, lane) -> None:
    """From here on backend "metal" runs in the lane."""
    monkeypatch.setattr(dispatch, "available_backends", lambda: ("metal", "reference"))
    monkeypatch.setattr(gpu_launch, "launch_kernel", lane.run)


def ttt_results(case: TttCase, backend: str) -> list[np.ndarray]:
    """y, state and the six gradients of a random weighting of both."""
    arrays = ttt_oracle.random_arrays(case.length, case.rows, case.length, case.heads, case.width, case.values)
    q, k, v = (mx.array(x).astype(case.dtype) for x in arrays[:3])
    eta, state, retention = map(mx.array, arrays[3:])
    draw = np.random.default_rng(0)
    over_y, over_state = (mx.array(draw.standard_normal(x.shape), mx.float32) for x in (v, state))

    def loss(q, k, v, eta, state, retention):
        options = {"chunk_size": case.size, "inclusive": case.inclusive, "hebbian": case.hebbian}
        y, last = ttt_chunk(q, k, v, eta, state, retention=retention, backend=backend, **options)
        return (y * over_y).sum() + (last * over_state).sum(), y, last

    (_, y, last), gradients = mx.value_and_grad(loss, argnums=range(6))(q, k, v, eta, state, retention)
    return [np.array(x.astype(mx.float32)) for x in (y, last, *gradients)]


def ctc_results(case: tuple[int, int, int, int], backend: str, blank: int = 0) -> list[np.ndarray]:
    """Losses and the gradient of the finite ones' sum; with repeats, empty rows and impossible rows among them."""
    logits, *rest = map(mx.array, ctc_oracle.random_batch(sum(case), *case, blank))

    def loss(logits):
        losses = ctc_loss(logits, *rest, blank=blank, backend=backend)
        return mx.where(mx.isfinite(losses), losses, 0.0).sum(), losses

    (_, losses), gradient = mx.value_and_grad(loss)(logits)
    return [np.array(losses), np.array(gradient)]


def assert_close(actual: list[np.ndarray], expected: list[np.ndarray], dtype: mx.Dtype = mx.float32) -> None:
    """Equal to 1e-5 of the largest value; a half type's results to two of its steps."""
    step = {mx.float32: 1e-5, mx.float16: 2e-3, mx.bfloat16: 1.6e-2}[dtype]
    for index, (array, reference) in enumerate(zip(actual, expected, strict=True)):
        assert np.array_equal(np.isfinite(array), np.isfinite(reference)), index
        finite = np.isfinite(reference)
        largest = max(1.0, np.abs(reference[finite]).max(initial=0.0))
        np.testing.assert_allclose(array[finite], reference[finite], atol=step * largest, rtol=0, err_msg=str(index))


def in_orders(cases: list) -> list:
    """Each case in one order of threads now and in the other two among the slow tests."""
    parameters = []
    for index, case in enumerate(cases):
        for turn, order in enumerate(ORDERS):
            marks = () if index % len(ORDERS) == turn else pytest.mark.slow
            parameters.append(pytest.param(case, order, marks=marks, id=f"{index}-{order}"))
    return parameters

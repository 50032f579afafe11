"""Measure through MLX how fast this machine computes the parts of a training step, for the table of chips."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mlx.core as mx

from thunder.training.shapes.chips import Chip

MATRICES = ((256, 1536, 2048), (512, 1536, 6144), (1024, 1536, 12288))  # [M, K] x [K, N]: of gemma-4-e2b's kind
LENGTHS = (256, 512, 1024)  # tokens of attention, 8 heads of 256
HEADS, HEAD = 8, 256
COPIES = (16 * 2**20, 128 * 2**20)  # bytes
AT_LEAST = 0.05  # seconds a measurement runs, so that a clock tick does not matter
AT_MOST = 2.0  # seconds; a size that would take longer, by the rate of the size before, is left out


@dataclass(frozen=True)
class RateMeasurement:
    """One measurement: its kind and size, its rate (multiply-adds or bytes a second), and the seconds of one turn."""

    kind: str
    size: str
    rate: float
    seconds: float


@dataclass(frozen=True)
class RateTrial:
    """One thing to measure. work: multiply-adds or bytes of one turn. make: returns the function that does a turn."""

    kind: str
    size: str
    work: float
    make: Callable[[], Callable[[], None]]


def rate_trials() -> Iterator[RateTrial]:
    """All trials, small sizes of a kind first; nothing is computed yet."""
    for kind, dtype in (("float32", mx.float32), ("reduced", mx.bfloat16), ("quantised", None)):
        for rows, inner, columns in MATRICES:
            size = f"{rows} x {inner} x {columns}"
            yield RateTrial(kind, size, float(rows) * inner * columns, _product(rows, inner, columns, dtype))
    for length in LENGTHS:
        work = 2.0 * HEADS * HEAD * length * length
        yield RateTrial("attention", f"{HEADS} heads of {HEAD}, {length} tokens", work, _attention(length))
    for count in COPIES:
        yield RateTrial("bandwidth", f"{count // 2**20} MiB", 2.0 * count, _copy(count))


def _product(rows: int, inner: int, columns: int, dtype: mx.Dtype | None) -> Callable[[], Callable[[], None]]:
    """[M, K] x [K, N] in a type; with weights of 4 bits where it is None."""

    def make() -> Callable[[], None]:
        left = mx.random.normal((rows, inner)).astype(dtype or mx.float32)
        right = mx.random.normal((columns, inner)).astype(dtype or mx.float32)
        if dtype is not None:
            mx.eval(left, right)
            return lambda: mx.eval(left @ right.T)
        weights = mx.quantize(right, group_size=64, bits=4)
        mx.eval(left, weights)
        return lambda: mx.eval(mx.quantized_matmul(left, *weights, transpose=True, group_size=64, bits=4))

    return make


def _attention(length: int) -> Callable[[], Callable[[], None]]:
    def make() -> Callable[[], None]:
        q, k, v = (mx.random.normal((1, HEADS, length, HEAD)) for _ in range(3))
        mx.eval(q, k, v)
        return lambda: mx.eval(mx.softmax(q @ k.swapaxes(-1, -2), axis=-1) @ v)

    return make


def _copy(count: int) -> Callable[[], Callable[[], None]]:
    def make() -> Callable[[], None]:
        array = mx.zeros((count // 4,))
        mx.eval(array)
        return lambda: mx.eval(array + 1.0)

    return make


def measure_rates(
    at_most: float = AT_MOST, clock: Callable[[], float] = time.perf_counter
) -> Iterator[RateMeasurement]:
    """Measure one trial after the other: the best of several turns, after one that only warms up."""
    rates: dict[str, float] = {}
    for trial in rate_trials():
        if trial.work > rates.get(trial.kind, math.inf) * at_most:
            continue
        turn, best, spent = trial.make(), math.inf, 0.0
        turn()
        while spent < AT_LEAST or not math.isfinite(best):
            begun = clock()
            turn()
            taken = clock() - begun
            best, spent = min(best, taken), spent + taken
        rates[trial.kind] = trial.work / best
        yield RateMeasurement(trial.kind, trial.size, trial.work / best, best)


def chip_from_measurements(
    name: str, measured: list[RateMeasurement], operations: int, megabytes: int, source: str
) -> Chip:
    """A chip from its measurements: of each kind, the rate of the largest size, which takes the longest."""
    last = {each.kind: each.rate for each in measured}
    device = mx.device_info() if mx.metal.is_available() else {}
    limit = device.get("max_recommended_working_set_size")
    return Chip(
        name, last["float32"], last["reduced"], last["quantised"], last["attention"], last["bandwidth"],
        operations, megabytes, int(limit) if limit else None, source,
    )  # fmt: skip

"""Compare every available kernel implementation with the reference over many shapes, and time it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import mlx.core as mx

from thunder.errors import ThunderError, UsageError
from thunder.kernels import dispatch
from thunder.kernels.ctc import ctc_loss
from thunder.kernels.ttt_chunk import ttt_chunk

BACKENDS = {"ttt_chunk": ("metal", "cuda"), "ctc": ("metal", "cuda", "cpu")}
TOLERANCE = {mx.float32: 1e-4, mx.float16: 4e-3, mx.bfloat16: 3e-2}  # as a fraction of the largest value
ROUNDS = 5


@dataclass(frozen=True)
class KernelCase:
    """One kernel call: sizes by name, options, dtype of the inputs. Timed cases have the size of a training step."""

    kernel: str
    sizes: tuple[tuple[str, int], ...]
    options: tuple[tuple[str, Any], ...] = ()
    dtype: mx.Dtype = mx.float32
    timed: bool = False

    def __str__(self) -> str:
        words = [f"{name} {value}" for name, value in self.sizes]
        words += [name if value is True else f"{name} {value}" for name, value in self.options if value]
        return " ".join([*words, str(self.dtype).removeprefix("mlx.core.")])


@dataclass(frozen=True)
class KernelCheck:
    """Result of one case on one backend; error: largest difference over largest value, of outputs and gradients."""

    kernel: str
    backend: str
    shape: str
    error: float
    agrees: bool
    seconds: float | None = None  # median time of one call with gradients; only for timed cases
    reference_seconds: float | None = None
    failure: str = ""  # why the case did not run

    def as_dict(self) -> dict[str, Any]:
        """JSON object that `thunder kernels selfcheck --json` prints."""
        values = asdict(self)
        values["fine"] = values.pop("agrees")
        values["said"] = values.pop("failure")
        return values


def ttt_case(dtype: mx.Dtype = mx.float32, timed: bool = False, **sizes: int) -> KernelCase:
    """A `ttt_chunk` case; `chunk_size`, `inclusive` and `hebbian` are options, the rest are sizes."""
    options = tuple((name, sizes.pop(name)) for name in ("chunk_size", "inclusive", "hebbian") if name in sizes)
    return KernelCase("ttt_chunk", tuple(sizes.items()), options, dtype, timed)


def kernel_cases() -> list[KernelCase]:
    """All cases, small ones first."""
    ttt_cases = [
        ttt_case(dtype, B=rows, T=frames, H=2, D=width, Dv=values, chunk_size=size, inclusive=bool(index % 2))
        for width, size, dtype in (
            (32, 16, mx.float32),
            (64, 1, mx.float32),
            (96, 7, mx.float32),
            (128, 16, mx.float16),
            (128, 16, mx.bfloat16),
            (256, 16, mx.float32),
            (64, 32, mx.float32),
        )
        for index, (rows, frames, values) in enumerate(((1, 1, 33), (2, 37, 40), (3, 64, 64), (1, 130, 17)))
    ]
    ttt_cases += [
        ttt_case(B=2, T=50, H=2, D=64, Dv=64, chunk_size=16, hebbian=True, inclusive=inclusive) for inclusive in (0, 1)
    ]
    ctc_cases = [
        KernelCase("ctc", (("B", rows), ("T", frames), ("U", labels), ("V", outputs)))
        for rows, frames in ((1, 1), (3, 17), (2, 120), (4, 375))
        for labels, outputs in ((0, 2), (9, 70), (60, 66), (200, 512))
    ]
    timed_cases = [
        KernelCase("ctc", (("B", 32), ("T", 375), ("U", 60), ("V", 66)), timed=True),
        ttt_case(timed=True, B=32, T=375, H=4, D=64, Dv=64, chunk_size=16),
    ]
    return [*ttt_cases, *ctc_cases, *timed_cases]


def random_inputs(case: KernelCase) -> list[mx.array]:
    """Random inputs, identical at every call."""
    key = iter(mx.random.split(mx.random.key(7), 8))
    size = dict(case.sizes)
    if case.kernel == "ctc":
        rows, frames, longest, outputs = size.values()
        lengths = mx.random.randint(1, frames + 1, (rows,), key=next(key))
        counts = mx.minimum(mx.random.randint(0, longest + 1, (rows,), key=next(key)), lengths)
        labels = mx.random.randint(1, outputs, (rows, longest), key=next(key))
        return [2 * mx.random.normal((rows, frames, outputs), key=next(key)), lengths, labels, counts]
    rows, frames, heads, width, values = size.values()
    q, k = (mx.random.normal((rows, frames, heads, width), key=next(key)) for _ in range(2))
    q, k = (x / mx.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
    v = mx.random.normal((rows, frames, heads, values), key=next(key))
    eta = 0.2 * mx.random.uniform(shape=(rows, frames, heads), key=next(key))
    state = 0.2 * mx.random.normal((rows, heads, width, values), key=next(key))
    return [*(x.astype(case.dtype) for x in (q, k, v)), eta, state]


def outputs_and_gradients(case: KernelCase, backend: str, arrays: list[mx.array]) -> list[mx.array]:
    """Outputs and gradients of one call, evaluated."""
    if case.kernel == "ctc":

        def loss(logits):
            losses = ctc_loss(logits, *arrays[1:], backend=backend)
            return mx.where(mx.isfinite(losses), losses, 0.0).sum(), losses

        (_, losses), gradient = mx.value_and_grad(loss)(arrays[0])
        outputs = [mx.where(mx.isfinite(losses), losses, -1.0), gradient]
    else:

        def squares(*inputs):
            y, state = ttt_chunk(*inputs, backend=backend, **dict(case.options))
            return (y.astype(mx.float32) ** 2).sum() + (state**2).sum(), y, state

        (_, *outputs_only), gradients = mx.value_and_grad(squares, argnums=range(5))(*arrays)
        outputs = [*outputs_only, *gradients]
    mx.eval(outputs)
    return outputs


def relative_difference(actual: list[mx.array], expected: list[mx.array]) -> float:
    """Largest over all arrays of (largest difference / largest value, at least 1); NaN counts as infinite."""
    errors = []
    for value, reference in zip(actual, expected, strict=True):
        value, reference = value.astype(mx.float32), reference.astype(mx.float32)
        error = (mx.abs(value - reference).max() / mx.maximum(mx.abs(reference).max(), 1.0)).item()
        errors.append(error if error == error else float("inf"))
    return max(errors)


def median_seconds(call: Callable[[], object]) -> float:
    """Median time of ROUNDS calls."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def check_case(case: KernelCase, backend: str) -> KernelCheck:
    """Compare one case on one backend with the reference."""
    arrays = random_inputs(case)
    mx.eval(arrays)
    expected = outputs_and_gradients(case, "reference", arrays)
    try:
        actual = outputs_and_gradients(case, backend, arrays)
    except (ThunderError, RuntimeError, ValueError) as error:  # source that a compiler or a driver rejects
        return KernelCheck(case.kernel, backend, str(case), float("inf"), False, failure=str(error))
    error = relative_difference(actual, expected)
    seconds, reference_seconds = None, None
    if case.timed:
        seconds = median_seconds(partial(outputs_and_gradients, case, backend, arrays))
        reference_seconds = median_seconds(partial(outputs_and_gradients, case, "reference", arrays))
    agrees = error <= TOLERANCE[case.dtype]
    return KernelCheck(case.kernel, backend, str(case), error, agrees, seconds, reference_seconds)


def run_selfcheck(requested: str = "auto") -> Iterator[KernelCheck]:
    """Check every case on the requested backend, or on every available one for "auto".

    Raises UsageError when the requested backend is unknown or unavailable.
    """
    backends = [name for name in dispatch.available_backends() if name != "reference"]
    if requested != "auto":
        reasons = dispatch.ABSENCE_REASONS
        if requested not in reasons:
            raise UsageError(f"no backend {requested!r} to check", f"one of auto, {', '.join(reasons)}")
        if requested not in backends:
            raise UsageError(f"backend {requested!r} cannot run: {reasons[requested]}", "thunder kernels selfcheck")
        backends = [requested]
    for backend in backends:
        for case in kernel_cases():
            if backend in BACKENDS[case.kernel]:
                yield check_case(case, backend)

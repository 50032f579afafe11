"""Every implementation present here against the reference, over many shapes, and how long each takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx

from thunder.errors import ThunderError, UsageError
from thunder.kernels import dispatch
from thunder.kernels.ctc import ctc_loss
from thunder.kernels.ttt_chunk import ttt_chunk

BACKENDS = {"ttt_chunk": ("metal", "cuda"), "ctc": ("metal", "cuda", "cpu")}
TOLERANCE = {mx.float32: 1e-4, mx.float16: 4e-3, mx.bfloat16: 3e-2}  # of the largest value
ROUNDS = 5


@dataclass(frozen=True)
class Shape:
    """One call: sizes by name, options, the type of its inputs; timed ones are of a training step's size."""

    kernel: str
    sizes: tuple[tuple[str, int], ...]
    options: tuple[tuple[str, Any], ...] = ()
    kind: mx.Dtype = mx.float32
    timed: bool = False

    def __str__(self) -> str:
        words = [f"{name} {value}" for name, value in self.sizes]
        words += [name if value is True else f"{name} {value}" for name, value in self.options if value]
        return " ".join([*words, str(self.kind).removeprefix("mlx.core.")])


@dataclass(frozen=True)
class Outcome:
    """What one shape gave on one backend; error: largest difference over largest value, outputs and gradients."""

    kernel: str
    backend: str
    shape: str
    error: float
    fine: bool
    seconds: float | None = None  # one call with gradients, median; only for timed shapes
    reference_seconds: float | None = None
    said: str = ""  # why it could not run


def update_shape(kind: mx.Dtype = mx.float32, timed: bool = False, **sizes: int) -> Shape:
    """A chunk update; `chunk_size`, `inclusive` and `hebbian` are options, the rest are sizes."""
    options = tuple((name, sizes.pop(name)) for name in ("chunk_size", "inclusive", "hebbian") if name in sizes)
    return Shape("ttt_chunk", tuple(sizes.items()), options, kind, timed)


def shapes() -> list[Shape]:
    """All shapes, small ones first."""
    updates = [
        update_shape(kind, B=rows, T=frames, H=2, D=width, Dv=values, chunk_size=size, inclusive=bool(place % 2))
        for width, size, kind in (
            (32, 16, mx.float32),
            (64, 1, mx.float32),
            (96, 7, mx.float32),
            (128, 16, mx.float16),
            (128, 16, mx.bfloat16),
            (256, 16, mx.float32),
            (64, 32, mx.float32),
        )
        for place, (rows, frames, values) in enumerate(((1, 1, 33), (2, 37, 40), (3, 64, 64), (1, 130, 17)))
    ]
    updates += [
        update_shape(B=2, T=50, H=2, D=64, Dv=64, chunk_size=16, hebbian=True, inclusive=order) for order in (0, 1)
    ]
    alignments = [
        Shape("ctc", (("B", rows), ("T", frames), ("U", labels), ("V", outputs)))
        for rows, frames in ((1, 1), (3, 17), (2, 120), (4, 375))
        for labels, outputs in ((0, 2), (9, 70), (60, 66), (200, 512))
    ]
    whole = [
        Shape("ctc", (("B", 32), ("T", 375), ("U", 60), ("V", 66)), timed=True),
        update_shape(timed=True, B=32, T=375, H=4, D=64, Dv=64, chunk_size=16),
    ]
    return [*updates, *alignments, *whole]


def arrays_of(shape: Shape) -> list[mx.array]:
    """Random inputs, the same at every call."""
    key = iter(mx.random.split(mx.random.key(7), 8))
    size = dict(shape.sizes)
    if shape.kernel == "ctc":
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
    return [*(x.astype(shape.kind) for x in (q, k, v)), eta, state]


def results(shape: Shape, backend: str, arrays: list[mx.array]) -> list[mx.array]:
    """Outputs and gradients of one call, evaluated."""
    if shape.kernel == "ctc":

        def loss(logits):
            losses = ctc_loss(logits, *arrays[1:], backend=backend)
            return mx.where(mx.isfinite(losses), losses, 0.0).sum(), losses

        (_, losses), gradient = mx.value_and_grad(loss)(arrays[0])
        outputs = [mx.where(mx.isfinite(losses), losses, -1.0), gradient]
    else:

        def squares(*some):
            y, state = ttt_chunk(*some, backend=backend, **dict(shape.options))
            return (y.astype(mx.float32) ** 2).sum() + (state**2).sum(), y, state

        (_, *found), gradients = mx.value_and_grad(squares, argnums=range(5))(*arrays)
        outputs = [*found, *gradients]
    mx.eval(outputs)
    return outputs


def difference(found: list[mx.array], wanted: list[mx.array]) -> float:
    """The largest over all arrays of largest difference over largest value (at least 1); NaN counts as infinite."""
    errors = []
    for one, other in zip(found, wanted, strict=True):
        one, other = one.astype(mx.float32), other.astype(mx.float32)
        error = (mx.abs(one - other).max() / mx.maximum(mx.abs(other).max(), 1.0)).item()
        errors.append(error if error == error else float("inf"))
    return max(errors)


def median_seconds(call: Callable[[], object]) -> float:
    """Median of some calls after those already made."""
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def check(shape: Shape, backend: str) -> Outcome:
    """One shape on one backend against the reference."""
    arrays = arrays_of(shape)
    mx.eval(arrays)
    wanted = results(shape, "reference", arrays)
    try:
        found = results(shape, backend, arrays)
    except (ThunderError, RuntimeError, ValueError) as error:  # a text that a compiler or a driver refuses
        return Outcome(shape.kernel, backend, str(shape), float("inf"), False, said=str(error))
    error = difference(found, wanted)
    seconds, reference_seconds = None, None
    if shape.timed:
        seconds = median_seconds(partial(results, shape, backend, arrays))
        reference_seconds = median_seconds(partial(results, shape, "reference", arrays))
    fine = error <= TOLERANCE[shape.kind]
    return Outcome(shape.kernel, backend, str(shape), error, fine, seconds, reference_seconds)


def outcomes(wanted: str = "auto") -> Iterator[Outcome]:
    """Every shape on every backend present ("auto") or on the one named; raises UsageError where that is absent."""
    here = [name for name in dispatch.present() if name != "reference"]
    if wanted != "auto":
        if wanted not in dispatch.ABSENT:
            raise UsageError(f"no backend {wanted!r} to check", f"one of auto, {', '.join(dispatch.ABSENT)}")
        if wanted not in here:
            raise UsageError(f"backend {wanted!r} cannot run: {dispatch.ABSENT[wanted]}", "thunder kernels selfcheck")
        here = [wanted]
    for backend in here:
        for shape in shapes():
            if backend in BACKENDS[shape.kernel]:
                yield check(shape, backend)

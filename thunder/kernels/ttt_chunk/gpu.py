"""The two scans on a GPU, with the shapes and the layout that `reference` has."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mlx.core as mx

from thunder.kernels import gpu_launch
from thunder.kernels.gpu_launch import SIMD, THREADGROUP_BYTES, Kernel, Launch, whole

FOLDER = Path(__file__).parent
AHEAD = Kernel(
    "ttt_chunk_ahead",
    ("q", "k", "v", "eta", "retention", "state", "sizes"),
    ("read", "keyed", "last", "kept"),
    FOLDER / "ahead.metal",
)
BACK = Kernel(
    "ttt_chunk_back",
    ("q", "k", "eta", "retention", "dy", "own", "dstate", "sizes"),
    ("u", "gradients", "first"),
    FOLDER / "back.metal",
)
WIDEST, LONGEST = 256, 32  # D and C; C values of a row's errors live in registers
PER_LANE = 32  # state floats that one lane holds
GROUP = 256  # threads of a group at most
HALVES = (mx.float16, mx.bfloat16)


def refused(width: int, size: int) -> dict[str, str]:
    """Why the texts cannot take this D and C, for each GPU backend; empty where they can."""
    reason = ""
    if width % SIMD or not SIMD <= width <= WIDEST:
        reason = f"D = {width} is no multiple of {SIMD} up to {WIDEST}"
    elif size > LONGEST or (size * width + size) * 4 + width * 4 > THREADGROUP_BYTES:
        reason = f"a chunk of {size} x {width} does not fit a threadgroup's memory or registers"
    return dict.fromkeys(("metal", "cuda"), reason) if reason else {}


def constants(width: int, values: int, size: int, kind: mx.Dtype, hebbian: bool) -> tuple[tuple[str, Any], ...]:
    """What the texts are compiled for: lanes P of a row, threads TG of a group, whether the queries are staged too."""
    lanes = 1  # a power of two: lanes find their partners by exclusive or
    while width // lanes > PER_LANE or width % lanes:
        lanes *= 2
    group = min(GROUP, whole(values * lanes, SIMD))
    staged = (2 * size * width + size) * 4 <= THREADGROUP_BYTES
    sizes = [("D", width), ("C", size), ("P", lanes), ("TG", group), ("STAGED", staged), ("HEBBIAN", hebbian)]
    return (("InT", kind), *sizes)


def common_type(*arrays: mx.array) -> tuple[list[mx.array], mx.Dtype]:
    """The arrays in their common half type, or else in float32."""
    kinds = {x.dtype for x in arrays}
    kind = kinds.pop() if len(kinds) == 1 and arrays[0].dtype in HALVES else mx.float32
    return [x.astype(kind) for x in arrays], kind


def start(forms: tuple[tuple[str, Any], ...], rows: int, values: int, shapes: tuple[gpu_launch.Shape, ...]) -> Launch:
    """Groups over the rows of the state in x, over batch and heads in z."""
    group, lanes = (dict(forms)[name] for name in ("TG", "P"))
    grid = (math.ceil(values * lanes / group) * group, 1, rows)
    return Launch(forms, grid, (group, 1, 1), shapes, (mx.float32,) * len(shapes))


def ahead(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    eta: mx.array,
    retention: mx.array,
    state: mx.array,
    *,
    size: int,
    every: int,
    hebbian: bool,
    backend: str,
) -> tuple[mx.array, mx.array, mx.array, mx.array]:
    """As `reference.ahead`."""
    (rows, length, heads, width), values = q.shape, v.shape[3]
    (q, k, v), kind = common_type(q, k, v)
    kept = math.ceil(math.ceil(length / size) / every)
    sizes = mx.array([length, heads, values, every], dtype=mx.int32)
    frames, states = (rows, length, heads, values), (rows, heads, values, width)
    forms = constants(width, values, size, kind, hebbian)
    began = start(forms, rows * heads, values, (frames, frames, states, (rows, heads, kept, values, width)))
    inputs = (q, k, v, eta.astype(mx.float32), retention, state.swapaxes(-1, -2), sizes)
    read, keyed, last, kept_states = gpu_launch.run(AHEAD, backend, inputs, began)
    return read, keyed, last.swapaxes(-1, -2), kept_states.swapaxes(-1, -2)


def back(
    q: mx.array,
    k: mx.array,
    eta: mx.array,
    retention: mx.array,
    dy: mx.array,
    own: mx.array,
    dstate: mx.array,
    *,
    size: int,
    hebbian: bool,
    backend: str,
) -> tuple[mx.array, mx.array, mx.array]:
    """As `reference.back`."""
    (rows, length, heads, width), values = q.shape, dy.shape[3]
    (q, k), kind = common_type(q, k)
    chunks = math.ceil(length / size)
    sizes = mx.array([length, heads, values], dtype=mx.int32)
    forms = constants(width, values, size, kind, hebbian)
    states = (rows, heads, values, width)
    began = start(forms, rows * heads, values, ((*dy.shape,), (rows, heads, chunks, values, width), states))
    inputs = (q, k, eta.astype(mx.float32), retention, dy.astype(mx.float32), own, dstate.swapaxes(-1, -2), sizes)
    u, gradients, first = gpu_launch.run(BACK, backend, inputs, began)
    return u, gradients.swapaxes(-1, -2), first.swapaxes(-1, -2)

"""The two scans on a GPU, with the shapes and the layout of `reference`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mlx.core as mx

from thunder.kernels import gpu_launch
from thunder.kernels.gpu_launch import SIMD_WIDTH, THREADGROUP_BYTES, GpuKernel, KernelLaunch, round_up

FOLDER = Path(__file__).parent
FORWARD = GpuKernel(
    "ttt_chunk_forward",
    ("q", "k", "v", "eta", "retention", "state", "sizes"),
    ("q_state", "k_state", "last_state", "saved_states"),
    FOLDER / "forward.metal",
)
BACKWARD = GpuKernel(
    "ttt_chunk_backward",
    ("q", "k", "eta", "retention", "dy", "intra_chunk", "dstate", "sizes"),
    ("u", "state_gradients", "first_gradient"),
    FOLDER / "backward.metal",
)
MAX_HEAD_DIM, MAX_CHUNK_SIZE = 256, 32  # D and C; a row's C errors are in registers
MAX_PER_LANE = 32  # state floats of one lane
MAX_THREADS = 256  # threads of a threadgroup
HALF_TYPES = (mx.float16, mx.bfloat16)


def unsupported_reasons(width: int, chunk_size: int) -> dict[str, str]:
    """Why the kernels cannot take this D and C, for each GPU backend; empty when they can."""
    reason = ""
    if width % SIMD_WIDTH or not SIMD_WIDTH <= width <= MAX_HEAD_DIM:
        reason = f"D = {width} is not a multiple of {SIMD_WIDTH} up to {MAX_HEAD_DIM}"
    elif chunk_size > MAX_CHUNK_SIZE or (chunk_size * width + chunk_size) * 4 + width * 4 > THREADGROUP_BYTES:
        reason = f"a chunk of {chunk_size} x {width} does not fit a threadgroup's memory or registers"
    return dict.fromkeys(("metal", "cuda"), reason) if reason else {}


def template_constants(
    width: int, values: int, chunk_size: int, dtype: mx.Dtype, hebbian: bool
) -> tuple[tuple[str, Any], ...]:
    """Template constants: lanes P of a row, threads TG of a group, STAGED (threadgroup memory holds the queries)."""
    lanes = 1  # a power of two: lanes exchange values by exclusive or of their indices
    while width // lanes > MAX_PER_LANE or width % lanes:
        lanes *= 2
    threads = min(MAX_THREADS, round_up(values * lanes, SIMD_WIDTH))
    staged = (2 * chunk_size * width + chunk_size) * 4 <= THREADGROUP_BYTES
    sizes = [("D", width), ("C", chunk_size), ("P", lanes), ("TG", threads), ("STAGED", staged), ("HEBBIAN", hebbian)]
    return (("InT", dtype), *sizes)


def common_type(*arrays: mx.array) -> tuple[list[mx.array], mx.Dtype]:
    """The arrays in their common half-precision type, otherwise in float32."""
    dtypes = {x.dtype for x in arrays}
    dtype = dtypes.pop() if len(dtypes) == 1 and arrays[0].dtype in HALF_TYPES else mx.float32
    return [x.astype(dtype) for x in arrays], dtype


def scan_launch(
    constants: tuple[tuple[str, Any], ...], rows: int, values: int, shapes: tuple[gpu_launch.ArrayShape, ...]
) -> KernelLaunch:
    """A launch over the rows of the state in x, and over batch and heads in z."""
    threads, lanes = (dict(constants)[name] for name in ("TG", "P"))
    grid = (math.ceil(values * lanes / threads) * threads, 1, rows)
    return KernelLaunch(constants, grid, (threads, 1, 1), shapes, (mx.float32,) * len(shapes))


def forward(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    eta: mx.array,
    retention: mx.array,
    state: mx.array,
    *,
    chunk_size: int,
    checkpoint_every: int,
    hebbian: bool,
    backend: str,
) -> tuple[mx.array, mx.array, mx.array, mx.array]:
    """Same as `reference.forward`."""
    (rows, length, heads, width), values = q.shape, v.shape[3]
    (q, k, v), dtype = common_type(q, k, v)
    saved = math.ceil(math.ceil(length / chunk_size) / checkpoint_every)
    sizes = mx.array([length, heads, values, checkpoint_every], dtype=mx.int32)
    frames, states = (rows, length, heads, values), (rows, heads, values, width)
    constants = template_constants(width, values, chunk_size, dtype, hebbian)
    launch = scan_launch(constants, rows * heads, values, (frames, frames, states, (rows, heads, saved, values, width)))
    inputs = (q, k, v, eta.astype(mx.float32), retention, state.swapaxes(-1, -2), sizes)
    q_state, k_state, last_state, saved_states = gpu_launch.launch_kernel(FORWARD, backend, inputs, launch)
    return q_state, k_state, last_state.swapaxes(-1, -2), saved_states.swapaxes(-1, -2)


def backward(
    q: mx.array,
    k: mx.array,
    eta: mx.array,
    retention: mx.array,
    dy: mx.array,
    intra_chunk: mx.array,
    dstate: mx.array,
    *,
    chunk_size: int,
    hebbian: bool,
    backend: str,
) -> tuple[mx.array, mx.array, mx.array]:
    """Same as `reference.backward`."""
    (rows, length, heads, width), values = q.shape, dy.shape[3]
    (q, k), dtype = common_type(q, k)
    chunks = math.ceil(length / chunk_size)
    sizes = mx.array([length, heads, values], dtype=mx.int32)
    constants = template_constants(width, values, chunk_size, dtype, hebbian)
    states = (rows, heads, values, width)
    launch = scan_launch(constants, rows * heads, values, ((*dy.shape,), (rows, heads, chunks, values, width), states))
    dy, dstate = dy.astype(mx.float32), dstate.swapaxes(-1, -2)
    inputs = (q, k, eta.astype(mx.float32), retention, dy, intra_chunk, dstate, sizes)
    u, state_gradients, first_gradient = gpu_launch.launch_kernel(BACKWARD, backend, inputs, launch)
    return u, state_gradients.swapaxes(-1, -2), first_gradient.swapaxes(-1, -2)

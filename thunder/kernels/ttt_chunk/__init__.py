"""Chunk update of test-time training: read with the weights so far, then take one gradient step on the chunk."""

from __future__ import annotations

import mlx.core as mx

from thunder.errors import UsageError
from thunder.kernels import dispatch
from thunder.kernels.ttt_chunk import gpu
from thunder.kernels.ttt_chunk.update import UpdateOptions, differentiable_update

KERNEL = "ttt_chunk"


def ttt_chunk(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    eta: mx.array,
    state: mx.array,
    *,
    chunk_size: int = 16,
    retention: mx.array | float | None = None,
    inclusive: bool = False,
    hebbian: bool = False,
    backend: str = "auto",
) -> tuple[mx.array, mx.array]:
    """(y [B, T, H, Dv] in v's type, state [B, H, D, Dv] float32 after the last frame), differentiable in every array.

    q, k: [B, T, H, D]. v: [B, T, H, Dv]. eta: [B, T, H], step size of each frame; 0 for a frame that must not change
    the state. state: [B, H, D, Dv]. retention: [H] or a number, the factor on the state after each chunk (None: 1).
    For each chunk of C frames: Y = Q S; E = diag(eta) (K S - V); S <- retention S - K^T E. So the output of a frame
    depends on earlier chunks only. inclusive: Y includes the steps of the chunk's own frames up to each frame
    (Y = Q S - tril(Q K^T) E). hebbian: E = -diag(eta) V. Arithmetic is float32. To stream, split at multiples of C and
    pass the state on. Raises UsageError for arrays with inconsistent shapes.
    """
    check_shapes(q, k, v, eta, state)
    heads = q.shape[2]
    if chunk_size < 1:
        raise UsageError(f"{KERNEL}: chunk_size {chunk_size}", "at least 1")
    retention = mx.array(1.0 if retention is None else retention, dtype=mx.float32)
    if retention.shape not in ((), (heads,)):
        raise UsageError(f"{KERNEL}: retention {retention.shape}", f"a number or [{heads}], one for each head")
    unsupported = {"cpu": "this kernel has no CPU program"} | gpu.unsupported_reasons(q.shape[3], chunk_size)
    options = UpdateOptions(chunk_size, inclusive, hebbian, dispatch.choose_backend(backend, KERNEL, unsupported))
    primals = q, k, v, eta, mx.broadcast_to(retention, (heads,)), state.astype(mx.float32)
    y, state, _ = differentiable_update(options)(*primals)
    return y, state


def check_shapes(q: mx.array, k: mx.array, v: mx.array, eta: mx.array, state: mx.array) -> None:
    """Raise UsageError with every shape when the shapes are inconsistent."""
    is_consistent = (
        q.ndim == v.ndim == 4 and q.shape == k.shape and q.shape[:3] == v.shape[:3] == eta.shape and min(q.shape) > 0
    )
    if not is_consistent or state.shape != (q.shape[0], q.shape[2], q.shape[3], v.shape[3]):
        raise UsageError(
            f"{KERNEL}: inconsistent shapes: q {q.shape}, k {k.shape}, v {v.shape}, eta {eta.shape}, "
            f"state {state.shape}",
            "q, k [B, T, H, D], v [B, T, H, Dv], eta [B, T, H], state [B, H, D, Dv]",
        )

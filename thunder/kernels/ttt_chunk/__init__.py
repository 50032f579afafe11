"""The chunk update of test-time training: read with the weights so far, then one gradient step on the chunk."""

from __future__ import annotations

import mlx.core as mx

from thunder.errors import UsageError
from thunder.kernels import dispatch
from thunder.kernels.ttt_chunk import gpu
from thunder.kernels.ttt_chunk.update import Options, differentiable

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

    q, k: [B, T, H, D]; v: [B, T, H, Dv]; eta: [B, T, H], the step of each frame, 0 where a frame shall teach nothing;
    state: [B, H, D, Dv]; retention: [H] or a number, what of the state outlives a chunk (None: all of it).
    For each chunk of C frames: Y = Q S; E = diag(eta) (K S - V); S <- retention S - K^T E. So a frame's output depends
    on earlier chunks only. inclusive: Y counts the steps of the chunk's own frames up to each frame
    (Y = Q S - tril(Q K^T) E). hebbian: E = -diag(eta) V. Arithmetic is float32. To stream, cut at multiples of C and
    hand the state on. Raises UsageError for arrays that do not fit together.
    """
    check_shapes(q, k, v, eta, state)
    heads = q.shape[2]
    if chunk_size < 1:
        raise UsageError(f"{KERNEL}: chunk_size {chunk_size}", "at least 1")
    retention = mx.array(1.0 if retention is None else retention, dtype=mx.float32)
    if retention.shape not in ((), (heads,)):
        raise UsageError(f"{KERNEL}: retention {retention.shape}", f"a number or [{heads}], one for each head")
    refused = {"cpu": "there is none"} | gpu.refused(q.shape[3], chunk_size)
    options = Options(chunk_size, inclusive, hebbian, dispatch.choose(backend, KERNEL, refused))
    primals = q, k, v, eta, mx.broadcast_to(retention, (heads,)), state.astype(mx.float32)
    y, state, _ = differentiable(options)(*primals)
    return y, state


def check_shapes(q: mx.array, k: mx.array, v: mx.array, eta: mx.array, state: mx.array) -> None:
    """Raise UsageError with every shape where they do not fit together."""
    fits = q.ndim == v.ndim == 4 and q.shape == k.shape and q.shape[:3] == v.shape[:3] == eta.shape and min(q.shape) > 0
    if not fits or state.shape != (q.shape[0], q.shape[2], q.shape[3], v.shape[3]):
        raise UsageError(
            f"{KERNEL}: q {q.shape}, k {k.shape}, v {v.shape}, eta {eta.shape}, state {state.shape} "
            "do not fit together",
            "q, k [B, T, H, D], v [B, T, H, Dv], eta [B, T, H], state [B, H, D, Dv]",
        )

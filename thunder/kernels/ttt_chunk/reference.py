"""The two scans over chunks in MLX operations: states forwards, their gradients backwards."""

from __future__ import annotations

import mlx.core as mx


def chunked(x: mx.array, size: int) -> mx.array:
    """[B, T, H, ...] to [B, H, N, C, ...] float32, the last chunk filled up with zeros (which teach nothing)."""
    length = x.shape[1]
    x = mx.pad(x.astype(mx.float32), [(0, 0), (0, -length % size)] + [(0, 0)] * (x.ndim - 2))
    x = x.reshape(x.shape[0], -1, size, *x.shape[2:])
    return mx.moveaxis(x, 3, 1)


def framed(x: mx.array, length: int) -> mx.array:
    """[B, H, N, C, ...] back to [B, T, H, ...]."""
    x = mx.moveaxis(x, 1, 3)
    return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :length]


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
) -> tuple[mx.array, mx.array, mx.array, mx.array]:
    """(Q S [B, T, H, Dv], K S [B, T, H, Dv], last state, states before every `every`-th chunk [B, H, n, D, Dv])."""
    length = q.shape[1]
    q, k, v, eta = (chunked(x, size) for x in (q, k, v, eta))
    turned, keep = k.swapaxes(-1, -2), retention[:, None, None]
    read, keyed, kept = [], [], []
    for chunk in range(q.shape[2]):
        if chunk % every == 0:
            kept.append(state)
        read.append(q[:, :, chunk] @ state)
        keyed.append(k[:, :, chunk] @ state)
        error = -v[:, :, chunk] if hebbian else keyed[-1] - v[:, :, chunk]
        state = keep * state - turned[:, :, chunk] @ (eta[:, :, chunk, :, None] * error)
        (state,) = mx.depends([state], [read[-1], keyed[-1]])  # or MLX may read last, with every state still alive
    return framed(mx.stack(read, 2), length), framed(mx.stack(keyed, 2), length), state, mx.stack(kept, 2)


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
) -> tuple[mx.array, mx.array, mx.array]:
    """(U, minus the gradient of each frame's E [B, T, H, Dv]; G [B, H, N, D, Dv] after each chunk; G before the first).

    own: [B, T, H, Dv], what reaches U inside its chunk (inclusive order), else zeros. dstate: G after the last chunk.
    """
    length = q.shape[1]
    q, k, eta, dy, own = (chunked(x, size) for x in (q, k, eta, dy, own))
    k_turned, q_turned, keep = k.swapaxes(-1, -2), q.swapaxes(-1, -2), retention[:, None, None]
    gradients, errors = [], []
    for chunk in reversed(range(q.shape[2])):
        gradients.append(dstate)
        error = k[:, :, chunk] @ dstate + own[:, :, chunk]
        errors.append(error)
        dstate = keep * dstate + q_turned[:, :, chunk] @ dy[:, :, chunk]
        if not hebbian:
            dstate = dstate - k_turned[:, :, chunk] @ (eta[:, :, chunk, :, None] * error)
    return framed(mx.stack(errors[::-1], 2), length), mx.stack(gradients[::-1], 2), dstate

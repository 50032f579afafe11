"""Reference scans over chunks in MLX operations: forward over the states, backward over their gradients."""

from __future__ import annotations

import mlx.core as mx


def to_chunks(x: mx.array, chunk_size: int) -> mx.array:
    """[B, T, H, ...] to [B, H, N, C, ...] float32; zeros pad the last chunk (with eta 0, they change no state)."""
    length = x.shape[1]
    x = mx.pad(x.astype(mx.float32), [(0, 0), (0, -length % chunk_size)] + [(0, 0)] * (x.ndim - 2))
    x = x.reshape(x.shape[0], -1, chunk_size, *x.shape[2:])
    return mx.moveaxis(x, 3, 1)


def to_frames(x: mx.array, length: int) -> mx.array:
    """[B, H, N, C, ...] back to [B, T, H, ...]."""
    x = mx.moveaxis(x, 1, 3)
    return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :length]


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
) -> tuple[mx.array, mx.array, mx.array, mx.array]:
    """(Q S [B, T, H, Dv], K S [B, T, H, Dv], last state [B, H, D, Dv], saved states [B, H, n, D, Dv]).

    saved states: the states before every `checkpoint_every`-th chunk.
    """
    length = q.shape[1]
    q, k, v, eta = (to_chunks(x, chunk_size) for x in (q, k, v, eta))
    k_t, decay = k.swapaxes(-1, -2), retention[:, None, None]
    q_state, k_state, saved_states = [], [], []
    for chunk in range(q.shape[2]):
        if chunk % checkpoint_every == 0:
            saved_states.append(state)
        q_state.append(q[:, :, chunk] @ state)
        k_state.append(k[:, :, chunk] @ state)
        error = -v[:, :, chunk] if hebbian else k_state[-1] - v[:, :, chunk]
        state = decay * state - k_t[:, :, chunk] @ (eta[:, :, chunk, :, None] * error)
        # without this, MLX may compute these products last, with every state still in memory
        (state,) = mx.depends([state], [q_state[-1], k_state[-1]])
    return (
        to_frames(mx.stack(q_state, 2), length),
        to_frames(mx.stack(k_state, 2), length),
        state,
        mx.stack(saved_states, 2),
    )


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
) -> tuple[mx.array, mx.array, mx.array]:
    """(U [B, T, H, Dv], G after each chunk [B, H, N, D, Dv], G before the first chunk [B, H, D, Dv]).

    U: minus the gradient of each frame's E. G: gradient of the state. intra_chunk: [B, T, H, Dv], contribution to U
    from frames of the same chunk (inclusive order), otherwise zeros. dstate: G after the last chunk.
    """
    length = q.shape[1]
    q, k, eta, dy, intra_chunk = (to_chunks(x, chunk_size) for x in (q, k, eta, dy, intra_chunk))
    k_t, q_t, decay = k.swapaxes(-1, -2), q.swapaxes(-1, -2), retention[:, None, None]
    state_gradients, errors = [], []
    for chunk in reversed(range(q.shape[2])):
        state_gradients.append(dstate)
        error = k[:, :, chunk] @ dstate + intra_chunk[:, :, chunk]
        errors.append(error)
        dstate = decay * dstate + q_t[:, :, chunk] @ dy[:, :, chunk]
        if not hebbian:
            dstate = dstate - k_t[:, :, chunk] @ (eta[:, :, chunk, :, None] * error)
    return to_frames(mx.stack(errors[::-1], 2), length), mx.stack(state_gradients[::-1], 2), dstate

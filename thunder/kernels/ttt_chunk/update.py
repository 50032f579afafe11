"""The update and its gradient on top of the two scans: products over all chunks at once, and recomputation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import mlx.core as mx

from thunder.kernels.ttt_chunk import gpu, reference
from thunder.kernels.ttt_chunk.reference import to_chunks, to_frames


@dataclass(frozen=True)
class UpdateOptions:
    """Constants of one compiled variant of the update."""

    chunk_size: int  # C
    inclusive: bool
    hebbian: bool
    backend: str

    def forward(self, *arrays: mx.array, checkpoint_every: int) -> tuple[mx.array, mx.array, mx.array, mx.array]:
        """The forward scan (see `reference.forward`)."""
        if self.backend == "reference":
            return reference.forward(
                *arrays, chunk_size=self.chunk_size, checkpoint_every=checkpoint_every, hebbian=self.hebbian
            )
        return gpu.forward(
            *arrays,
            chunk_size=self.chunk_size,
            checkpoint_every=checkpoint_every,
            hebbian=self.hebbian,
            backend=self.backend,
        )

    def backward(self, *arrays: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """The backward scan (see `reference.backward`)."""
        if self.backend == "reference":
            return reference.backward(*arrays, chunk_size=self.chunk_size, hebbian=self.hebbian)
        return gpu.backward(*arrays, chunk_size=self.chunk_size, hebbian=self.hebbian, backend=self.backend)

    def checkpoint_every(self, length: int) -> int:
        """Chunks between two states that are saved for the gradient: the square root of the number of chunks."""
        return math.ceil(math.sqrt(math.ceil(length / self.chunk_size)))


@cache
def differentiable_update(options: UpdateOptions):
    """(q, k, v, eta, retention [H], state) -> (y, last state, saved states [B, H, n, D, Dv]), with its own gradient."""

    @mx.custom_function
    def update(q, k, v, eta, retention, state):
        checkpoint_every = options.checkpoint_every(q.shape[1])
        q_state, k_state, last_state, saved_states = options.forward(
            q, k, v, eta, retention, state, checkpoint_every=checkpoint_every
        )
        if options.inclusive:
            error = eta[..., None].astype(mx.float32) * ((0 if options.hebbian else k_state) - v.astype(mx.float32))
            inside = causal_scores(q, k, options.chunk_size) @ to_chunks(error, options.chunk_size)
            q_state = q_state - to_frames(inside, q.shape[1])
        return q_state.astype(v.dtype), last_state, saved_states

    @update.vjp
    def gradient(primals, cotangents, outputs):
        return update_gradients(options, primals, outputs[2], cotangents[0], cotangents[1])

    return update


def causal_scores(q: mx.array, k: mx.array, chunk_size: int) -> mx.array:
    """tril(Q K^T) [B, H, N, C, C]: weight of each earlier frame of the chunk, and of the frame itself, for a query."""
    return mx.tril(to_chunks(q, chunk_size) @ to_chunks(k, chunk_size).swapaxes(-1, -2))


def update_gradients(
    options: UpdateOptions, primals: tuple[mx.array, ...], saved_states: mx.array, dy: mx.array, dstate: mx.array
) -> tuple[mx.array, ...]:
    """Gradients of the six inputs, segment by segment from the last; one segment's states are in memory at a time."""
    q, k, v, eta, retention, _ = primals
    frames = options.chunk_size * options.checkpoint_every(q.shape[1])
    segments: list[tuple[mx.array, ...]] = []
    dretention = mx.zeros_like(retention)
    for index in reversed(range(saved_states.shape[2])):
        inputs = (x[:, index * frames : (index + 1) * frames] for x in (q, k, v, eta, dy))
        begin = saved_states[:, :, index]
        if segments:  # both scans wait until the segment after this one is finished
            begin, dstate = mx.depends([begin, dstate], [dretention, *segments[-1]])
        segment, segment_dretention, dstate = segment_gradients(options, *inputs, retention, begin, dstate)
        segments.append(segment)
        dretention = dretention + segment_dretention
    gradients = [mx.concatenate(parts[::-1], 1) for parts in zip(*segments, strict=True)]
    typed = [gradient.astype(primal.dtype) for gradient, primal in zip(gradients, primals[:4], strict=True)]
    return *typed, dretention, dstate


def segment_gradients(
    options: UpdateOptions,
    q: mx.array,
    k: mx.array,
    v: mx.array,
    eta: mx.array,
    dy: mx.array,
    retention: mx.array,
    state: mx.array,
    dstate: mx.array,
) -> tuple[tuple[mx.array, ...], mx.array, mx.array]:
    """((dq, dk, dv, deta) of the frames of a segment, its part of dretention [H], G before the segment)."""
    chunk_size, length = options.chunk_size, q.shape[1]
    states = options.forward(q, k, v, eta, retention, state, checkpoint_every=1)[3]
    queries, keys, values, steps, dys = (to_chunks(x, chunk_size) for x in (q, k, v, eta[..., None], dy))
    intra_chunk = mx.zeros(v.shape)
    if options.inclusive:
        intra_chunk = to_frames(causal_scores(q, k, chunk_size).swapaxes(-1, -2) @ dys, length)
    u, state_gradients, dstate = options.backward(q, k, eta, retention, dy, intra_chunk, dstate)
    u = to_chunks(u, chunk_size)

    error = -values if options.hebbian else keys @ states - values
    dq = dys @ states.swapaxes(-1, -2)
    dk = -(steps * error) @ state_gradients.swapaxes(-1, -2)
    if not options.hebbian:
        dk = dk - (steps * u) @ states.swapaxes(-1, -2)
    if options.inclusive:
        inside = mx.tril(dys @ (steps * error).swapaxes(-1, -2))
        dq, dk = dq - inside @ keys, dk - inside.swapaxes(-1, -2) @ queries
    gradients = (dq, dk, steps * u, -(error * u).sum(-1))
    return tuple(to_frames(x, length) for x in gradients), (states * state_gradients).sum((0, 2, 3, 4)), dstate

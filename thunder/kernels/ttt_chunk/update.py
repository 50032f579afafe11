"""The update and its gradient around the two scans: what is a product over all chunks at once, and the replay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import mlx.core as mx

from thunder.kernels.ttt_chunk import gpu, reference
from thunder.kernels.ttt_chunk.reference import chunked, framed


@dataclass(frozen=True)
class Options:
    """What is fixed for one compiled form of the update."""

    size: int  # C
    inclusive: bool
    hebbian: bool
    backend: str

    def ahead(self, *arrays: mx.array, every: int) -> tuple[mx.array, mx.array, mx.array, mx.array]:
        """The forward scan (see `reference.ahead`)."""
        if self.backend == "reference":
            return reference.ahead(*arrays, size=self.size, every=every, hebbian=self.hebbian)
        return gpu.ahead(*arrays, size=self.size, every=every, hebbian=self.hebbian, backend=self.backend)

    def back(self, *arrays: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """The backward scan (see `reference.back`)."""
        if self.backend == "reference":
            return reference.back(*arrays, size=self.size, hebbian=self.hebbian)
        return gpu.back(*arrays, size=self.size, hebbian=self.hebbian, backend=self.backend)

    def piece(self, length: int) -> int:
        """Chunks between two states that are kept for the gradient: the root of their number."""
        return math.ceil(math.sqrt(math.ceil(length / self.size)))


@cache
def differentiable(options: Options):
    """(q, k, v, eta, retention [H], state) -> (y, last state, kept states [B, H, n, D, Dv]) with its own gradient."""

    @mx.custom_function
    def update(q, k, v, eta, retention, state):
        every = options.piece(q.shape[1])
        read, keyed, last, kept = options.ahead(q, k, v, eta, retention, state, every=every)
        if options.inclusive:
            error = eta[..., None].astype(mx.float32) * ((0 if options.hebbian else keyed) - v.astype(mx.float32))
            read = read - framed(weights(q, k, options.size) @ chunked(error, options.size), q.shape[1])
        return read.astype(v.dtype), last, kept

    @update.vjp
    def gradient(primals, cotangents, outputs):
        return differentiate(options, primals, outputs[2], cotangents[0], cotangents[1])

    return update


def weights(q: mx.array, k: mx.array, size: int) -> mx.array:
    """tril(Q K^T) [B, H, N, C, C]: how much of a frame's own and earlier steps in its chunk its query sees."""
    return mx.tril(chunked(q, size) @ chunked(k, size).swapaxes(-1, -2))


def differentiate(
    options: Options, primals: tuple[mx.array, ...], kept: mx.array, dy: mx.array, dstate: mx.array
) -> tuple[mx.array, ...]:
    """Gradients of the six primals, piece by piece from the last; only one piece's states are alive at a time."""
    q, k, v, eta, retention, _ = primals
    frames = options.size * options.piece(q.shape[1])
    pieces: list[tuple[mx.array, ...]] = []
    dretention = mx.zeros_like(retention)
    for index in reversed(range(kept.shape[2])):
        some = (x[:, index * frames : (index + 1) * frames] for x in (q, k, v, eta, dy))
        start = kept[:, :, index]
        if pieces:  # neither scan goes on before the piece after this one is done with
            start, dstate = mx.depends([start, dstate], [dretention, *pieces[-1]])
        piece, kept_part, dstate = of_piece(options, *some, retention, start, dstate)
        pieces.append(piece)
        dretention = dretention + kept_part
    wholes = [mx.concatenate(parts[::-1], 1) for parts in zip(*pieces, strict=True)]
    typed = [whole.astype(primal.dtype) for whole, primal in zip(wholes, primals[:4], strict=True)]
    return *typed, dretention, dstate


def of_piece(
    options: Options,
    q: mx.array,
    k: mx.array,
    v: mx.array,
    eta: mx.array,
    dy: mx.array,
    retention: mx.array,
    state: mx.array,
    dstate: mx.array,
) -> tuple[tuple[mx.array, ...], mx.array, mx.array]:
    """((dq, dk, dv, deta) of some chunks' frames, their part of dretention [H], G before them)."""
    size, length = options.size, q.shape[1]
    states = options.ahead(q, k, v, eta, retention, state, every=1)[3]
    queries, keys, values, steps, dys = (chunked(x, size) for x in (q, k, v, eta[..., None], dy))
    own = mx.zeros(v.shape)
    if options.inclusive:
        own = framed(weights(q, k, size).swapaxes(-1, -2) @ dys, length)
    u, gradients, dstate = options.back(q, k, eta, retention, dy, own, dstate)
    u = chunked(u, size)

    error = -values if options.hebbian else keys @ states - values
    dq = dys @ states.swapaxes(-1, -2)
    dk = -(steps * error) @ gradients.swapaxes(-1, -2)
    if not options.hebbian:
        dk = dk - (steps * u) @ states.swapaxes(-1, -2)
    if options.inclusive:
        inside = mx.tril(dys @ (steps * error).swapaxes(-1, -2))
        dq, dk = dq - inside @ keys, dk - inside.swapaxes(-1, -2) @ queries
    found = (dq, dk, steps * u, -(error * u).sum(-1))
    return tuple(framed(x, length) for x in found), (states * gradients).sum((0, 2, 3, 4)), dstate

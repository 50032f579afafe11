"""Test-time training: fast weights that start at zero for each utterance and are updated after each chunk of frames.

A chunk is read with the weights that earlier chunks left (In-Place TTT's order), then one gradient step on
1/2 |k S - v|^2 of its frames is made (TTT-Linear's loss). No label is used.
docs/explanation/modes.md has the equations.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
from mlx import nn

from thunder.kernels.ttt_chunk import ttt_chunk

EPSILON = 1e-6


@dataclass(frozen=True)
class AdapterOutput:
    """Output of the adapter for some frames, and the change of its fast weights.

    out: [B, T, W]. state: [B, H, D, D] after the last frame. drift: [B] |S - S_0| (S_0 = 0, Frobenius, over heads).
    capped: [B] share of the valid frames' steps, over heads, that the cap reduced.
    """

    out: mx.array
    state: mx.array
    drift: mx.array
    capped: mx.array


@dataclass(frozen=True)
class AdapterStream:
    """State of a stream: fast weights [B, H, D, D] after whole chunks, and frames [B, t < C, W] of an
    incomplete chunk.
    """

    state: mx.array
    pending: mx.array


class FastWeights(nn.Module):
    """x + gate * norm(Q S) O, with queries, keys and values of norm(x).

    O starts at zero, so an untrained adapter changes nothing. The outer norm has no bias and S starts at zero: with a
    learning rate of 0 the output is bit-identical to x.
    """

    def __init__(self, width: int, heads: int, head_dim: int, chunk_size: int, learning_rate: float, cap: bool) -> None:
        super().__init__()
        self.heads, self.head_dim, self.chunk_size, self.learning_rate, self.cap = (
            heads,
            head_dim,
            chunk_size,
            learning_rate,
            cap,
        )
        self.enter = nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, heads * head_dim, bias=False) for _ in range(3))
        self.step = nn.Linear(width, heads)
        self.step.weight, self.step.bias = mx.zeros_like(self.step.weight), mx.zeros(heads)
        self.norm = nn.LayerNorm(heads * head_dim, bias=False)
        self.gate = mx.ones(width)
        self.output = nn.Linear(heads * head_dim, width, bias=False)
        self.output.weight = mx.zeros_like(self.output.weight)

    def __call__(self, x: mx.array, mask: mx.array) -> mx.array:
        """[B, T, W] from frames x [B, T, W] and mask [B, T] of valid frames; each row starts from S = 0."""
        return self.adapt(x, mask).out

    def adapt(self, x: mx.array, mask: mx.array, state: mx.array | None = None) -> AdapterOutput:
        """Like a call, with the state and its metrics; `state`: fast weights after an earlier chunk, to
        continue from.
        """
        normed = self.enter(x)
        q, k, v = (self.split_heads(layer(normed)) for layer in (self.query, self.key, self.value))
        # padding frames neither update the weights nor count in the cap of their chunk
        k = unit_vectors(k) * mask[..., None, None]
        uncapped = 2 * self.learning_rate * mx.sigmoid(self.step(normed)) * mask[..., None]
        eta = mx.minimum(uncapped, mx.stop_gradient(self.step_limits(k))) if self.cap else uncapped
        start = self.initial_state(x.shape[0]) if state is None else state
        y, last_state = ttt_chunk(unit_vectors(q), k, v, eta, start, chunk_size=self.chunk_size)
        out = x + self.gate * self.output(self.norm(y.flatten(2)))
        frames = mx.maximum(mask.sum(1), 1)
        capped = (eta < uncapped).sum((1, 2)) / (frames * self.heads)
        return AdapterOutput(out, last_state, mx.sqrt(mx.square(last_state).sum((1, 2, 3))), capped)

    def split_heads(self, x: mx.array) -> mx.array:
        """[B, T, H * D] to [B, T, H, D]."""
        return x.reshape(*x.shape[:2], self.heads, self.head_dim)

    def initial_state(self, rows: int) -> mx.array:
        """S_0 [B, H, D, D]: zero for every utterance."""
        return mx.zeros((rows, self.heads, self.head_dim, self.head_dim))

    def step_limits(self, k: mx.array) -> mx.array:
        """[B, T, H] the largest step size that cannot diverge: 1 / (largest row sum of |K K^T| in the frame's
        chunk).
        """
        rows, length = k.shape[:2]
        padded = mx.pad(k, [(0, 0), (0, -length % self.chunk_size), (0, 0), (0, 0)])
        chunks = padded.reshape(rows, -1, self.chunk_size, self.heads, self.head_dim).swapaxes(2, 3)
        bound = mx.abs(chunks @ chunks.swapaxes(-1, -2)).sum(-1).max(-1)  # [B, N, H]
        return mx.repeat(1 / (bound + EPSILON), self.chunk_size, axis=1)[:, :length]

    def start_stream(self, rows: int, width: int) -> AdapterStream:
        """The stream's state before its first frame."""
        return AdapterStream(self.initial_state(rows), mx.zeros((rows, 0, width)))

    def stream(self, x: mx.array, stream: AdapterStream) -> tuple[mx.array, AdapterStream]:
        """[B, t, W] for the next t frames of a stream, and the stream's new state.

        Chunk boundaries are those of the whole utterance, however the stream is split. Frames of an incomplete chunk
        are output at once, and update the weights when their chunk is complete.
        """
        frames = mx.concatenate([stream.pending.astype(x.dtype), x], 1)
        complete = frames.shape[1] // self.chunk_size * self.chunk_size
        outs, state = [], stream.state
        if complete:
            output = self.adapt(frames[:, :complete], mx.ones((x.shape[0], complete)), state)
            outs, state = [output.out], output.state
        if complete < frames.shape[1]:
            remaining = frames[:, complete:]
            outs.append(self.adapt(remaining, mx.ones(remaining.shape[:2]), state).out)
        out = mx.concatenate(outs, 1)[:, stream.pending.shape[1] :] if outs else x
        return out, AdapterStream(state, frames[:, complete:])


def unit_vectors(x: mx.array) -> mx.array:
    """Normalize vectors over the last axis to length 1; 0 stays 0."""
    return x * mx.rsqrt(mx.square(x).sum(-1, keepdims=True) + EPSILON)

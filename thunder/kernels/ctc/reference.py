"""CTC in MLX operations: forward and backward variables as one sweep in log space, the gradient beside the loss."""

from __future__ import annotations

from functools import cache

import mlx.core as mx

from thunder.kernels.ctc.problem import IMPOSSIBLE, NEVER, Problem, pose

BLOCK = 16  # frames between two re-centrings, compiled as one piece


def loss_and_gradient(
    logits: mx.array, frame_lengths: mx.array, labels: mx.array, label_lengths: mx.array, blank: int
) -> tuple[mx.array, mx.array]:
    """(losses [B], their gradient in the logits [B, T, V]), both float32; arguments as for `ctc_loss`."""
    problem = pose(logits, frame_lengths, labels, label_lengths, blank)
    emissions, jumps = both_ways(problem, blank)
    paths, shifts = sweep(emissions, jumps)

    rows = len(problem.states)
    state = mx.arange(problem.states.shape[1])
    time_back, state_back = backwards(problem)
    ahead, back = paths[:, :rows].swapaxes(0, 1), paths[:, rows:].swapaxes(0, 1)  # [B, T, S] each
    back = mx.take_along_axis(mx.take_along_axis(back, time_back[..., None], 1), state_back[:, None], 2)

    end = (problem.frames - 1)[:, None, None]
    last = mx.take_along_axis(ahead, end, 1)[:, 0]
    final = mx.logical_and(state >= problem.counts[:, None] - 2, state < problem.counts[:, None])
    likelihood = mx.logsumexp(mx.where(final, last, NEVER), 1)
    likelihood = likelihood + mx.take_along_axis(shifts[:, :rows].swapaxes(0, 1), end, 1)[:, 0, 0]
    losses = mx.where(likelihood < IMPOSSIBLE, mx.inf, -likelihood)

    # over the states of one frame the products of both variables sum to the likelihood: normalising frame by frame
    # needs no difference of large numbers
    live = (state < problem.counts[:, None])[:, None]
    share = mx.softmax(mx.where(live, ahead + back - emissions[:, :rows].swapaxes(0, 1), NEVER), -1)
    spelled = (problem.states[..., None] == mx.arange(logits.shape[2])).astype(mx.float32)
    return problem.finish(losses, mx.exp(problem.log_probs) - share @ spelled)


def backwards(problem: Problem) -> tuple[mx.array, mx.array]:
    """Indices [B, T] and [B, S] that turn each row's own frames and states round and leave the padding in place."""
    time, state = mx.arange(problem.valid.shape[1]), mx.arange(problem.states.shape[1])
    frames, counts = problem.frames[:, None], problem.counts[:, None]
    return mx.where(time < frames, frames - 1 - time, time), mx.where(state < counts, counts - 1 - state, state)


def both_ways(problem: Problem, blank: int) -> tuple[mx.array, mx.array]:
    """Emissions [T, 2B, S] and the cost of leaving out a blank [2B, S]; rows from B on are each row turned round."""
    time_back, state_back = backwards(problem)
    turned = mx.take_along_axis(problem.states, state_back, 1)
    emitted, jumps = [], []
    for states, log_probs in (
        (problem.states, problem.log_probs),
        (turned, mx.take_along_axis(problem.log_probs, time_back[..., None], 1)),
    ):
        emitted.append(mx.take_along_axis(log_probs, states[:, None], 2))
        two_before = mx.pad(states, [(0, 0), (2, 0)], constant_values=blank)[:, : states.shape[1]]
        jumps.append(mx.where((states != blank) & (states != two_before), 0.0, NEVER))
    return mx.concatenate(emitted).swapaxes(0, 1), mx.concatenate(jumps)


def sweep(emissions: mx.array, jumps: mx.array) -> tuple[mx.array, mx.array]:
    """Log path weights [T, 2B, S] and the shift [T, 2B, 1] to add to each for the true value."""
    length, rows, states = emissions.shape
    dead = mx.full((rows, 2), NEVER)
    now = mx.maximum(emissions[0] + mx.where(mx.arange(states) < 2, 0.0, NEVER), NEVER)
    shift = mx.zeros((rows, 1))
    paths, shifts = [now[None]], [shift[None]]
    for begin in range(1, length, BLOCK):
        piece = emissions[begin : begin + BLOCK]
        shifts.append(mx.broadcast_to(shift[None], (len(piece), rows, 1)))
        advance = compiled_block() if len(piece) == BLOCK else block
        some, now, shift = advance(now, shift, dead, jumps, piece)
        paths.append(some)
    return mx.concatenate(paths), mx.concatenate(shifts)


def block(
    now: mx.array, shift: mx.array, dead: mx.array, jumps: mx.array, emissions: mx.array
) -> tuple[mx.array, mx.array, mx.array]:
    """Weights of the next frames [K, 2B, S], and the last of them re-centred at their largest with the new shift."""
    some = []
    for emission in emissions:
        before = mx.concatenate([dead, now], 1)
        one, two = before[:, 1:-1], before[:, :-2] + jumps
        high, low = mx.maximum(now, one), mx.minimum(now, one)
        top, third = mx.maximum(high, two), mx.minimum(high, two)
        now = mx.maximum(top + mx.log(1.0 + mx.exp(low - top) + mx.exp(third - top)) + emission, NEVER)
        some.append(now)
    largest = now.max(1, keepdims=True)
    return mx.stack(some), mx.maximum(now - largest, NEVER), shift + largest


@cache
def compiled_block():
    """`block` compiled once, at its first use."""
    return mx.compile(block)

"""CTC reference in MLX operations: one log-space sweep gives forward and backward variables and the gradient."""

from __future__ import annotations

from functools import cache

import mlx.core as mx

from thunder.kernels.ctc.sanitized_batch import LOG_ZERO, LOG_ZERO_THRESHOLD, SanitizedBatch, sanitize_batch

BLOCK = 16  # frames between two rescalings, compiled as one block


def loss_and_gradient(
    logits: mx.array, frame_lengths: mx.array, labels: mx.array, label_lengths: mx.array, blank: int
) -> tuple[mx.array, mx.array]:
    """(losses [B], gradient of each in the logits [B, T, V]), both float32; arguments as for `ctc_loss`."""
    batch = sanitize_batch(logits, frame_lengths, labels, label_lengths, blank)
    emissions, jumps = stack_directions(batch, blank)
    path_weights, shifts = sweep_frames(emissions, jumps)

    rows = len(batch.states)
    state = mx.arange(batch.states.shape[1])
    time_reversal, state_reversal = reversal_indices(batch)
    forward, backward = path_weights[:, :rows].swapaxes(0, 1), path_weights[:, rows:].swapaxes(0, 1)  # [B, T, S] each
    backward = mx.take_along_axis(mx.take_along_axis(backward, time_reversal[..., None], 1), state_reversal[:, None], 2)

    last_frame = (batch.frame_counts - 1)[:, None, None]
    last_weights = mx.take_along_axis(forward, last_frame, 1)[:, 0]
    is_final = mx.logical_and(state >= batch.state_counts[:, None] - 2, state < batch.state_counts[:, None])
    likelihood = mx.logsumexp(mx.where(is_final, last_weights, LOG_ZERO), 1)
    likelihood = likelihood + mx.take_along_axis(shifts[:, :rows].swapaxes(0, 1), last_frame, 1)[:, 0, 0]
    losses = mx.where(likelihood < LOG_ZERO_THRESHOLD, mx.inf, -likelihood)

    # at each frame, the products of forward and backward variables sum to the likelihood over the states: normalizing
    # each frame by itself avoids differences of large numbers
    exists = (state < batch.state_counts[:, None])[:, None]
    occupancy = mx.softmax(mx.where(exists, forward + backward - emissions[:, :rows].swapaxes(0, 1), LOG_ZERO), -1)
    one_hot = (batch.states[..., None] == mx.arange(logits.shape[2])).astype(mx.float32)
    return batch.mask_rows(losses, mx.exp(batch.log_probs) - occupancy @ one_hot)


def reversal_indices(batch: SanitizedBatch) -> tuple[mx.array, mx.array]:
    """Indices [B, T] and [B, S] that reverse each row's own frames and states and leave the padding in place."""
    time, state = mx.arange(batch.frame_mask.shape[1]), mx.arange(batch.states.shape[1])
    frames, counts = batch.frame_counts[:, None], batch.state_counts[:, None]
    return mx.where(time < frames, frames - 1 - time, time), mx.where(state < counts, counts - 1 - state, state)


def stack_directions(batch: SanitizedBatch, blank: int) -> tuple[mx.array, mx.array]:
    """Emissions [T, 2B, S] and the log cost of skipping a blank [2B, S]; rows from B on are the rows reversed."""
    time_reversal, state_reversal = reversal_indices(batch)
    reversed_states = mx.take_along_axis(batch.states, state_reversal, 1)
    emissions, jumps = [], []
    for states, log_probs in (
        (batch.states, batch.log_probs),
        (reversed_states, mx.take_along_axis(batch.log_probs, time_reversal[..., None], 1)),
    ):
        emissions.append(mx.take_along_axis(log_probs, states[:, None], 2))
        two_before = mx.pad(states, [(0, 0), (2, 0)], constant_values=blank)[:, : states.shape[1]]
        jumps.append(mx.where((states != blank) & (states != two_before), 0.0, LOG_ZERO))
    return mx.concatenate(emissions).swapaxes(0, 1), mx.concatenate(jumps)


def sweep_frames(emissions: mx.array, jumps: mx.array) -> tuple[mx.array, mx.array]:
    """Log path weights [T, 2B, S] and the shift [T, 2B, 1] to add to each for its true value."""
    length, rows, states = emissions.shape
    padding = mx.full((rows, 2), LOG_ZERO)
    weights = mx.maximum(emissions[0] + mx.where(mx.arange(states) < 2, 0.0, LOG_ZERO), LOG_ZERO)
    shift = mx.zeros((rows, 1))
    path_weights, shifts = [weights[None]], [shift[None]]
    for begin in range(1, length, BLOCK):
        chunk = emissions[begin : begin + BLOCK]
        shifts.append(mx.broadcast_to(shift[None], (len(chunk), rows, 1)))
        advance = compiled_block() if len(chunk) == BLOCK else sweep_block
        chunk_weights, weights, shift = advance(weights, shift, padding, jumps, chunk)
        path_weights.append(chunk_weights)
    return mx.concatenate(path_weights), mx.concatenate(shifts)


def sweep_block(
    weights: mx.array, shift: mx.array, padding: mx.array, jumps: mx.array, emissions: mx.array
) -> tuple[mx.array, mx.array, mx.array]:
    """Weights of the next K frames [K, 2B, S]; the last frame's weights minus their largest [2B, S]; the new shift."""
    all_weights = []
    for emission in emissions:
        previous = mx.concatenate([padding, weights], 1)
        one, two = previous[:, 1:-1], previous[:, :-2] + jumps
        high, low = mx.maximum(weights, one), mx.minimum(weights, one)
        top, third = mx.maximum(high, two), mx.minimum(high, two)
        weights = mx.maximum(top + mx.log(1.0 + mx.exp(low - top) + mx.exp(third - top)) + emission, LOG_ZERO)
        all_weights.append(weights)
    largest = weights.max(1, keepdims=True)
    return mx.stack(all_weights), mx.maximum(weights - largest, LOG_ZERO), shift + largest


@cache
def compiled_block():
    """`sweep_block`, compiled once at its first use."""
    return mx.compile(sweep_block)

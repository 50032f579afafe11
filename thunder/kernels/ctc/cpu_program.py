"""numba loops of CTC on the CPU. Import this module only where the loops run: the import loads numba."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.polynomial import Chebyshev, Polynomial

F32, I32 = np.float32, np.int32
ZERO_EXPONENT = I32(-(1 << 29))  # exponent of weight zero; an exponent below ZERO_EXPONENT / 4 * 3 contains it
EMISSION_BITS = (
    1 << 28
)  # bits that the emissions of one row may span; smaller probabilities are raised to the least one
LOG2_E = F32(1.4426950408889634)
# 2^r on [0, 1) as a polynomial, error 3e-9
P0, P1, P2, P3, P4, P5, P6 = map(F32, Chebyshev.interpolate(np.exp2, 6, [0, 1]).convert(kind=Polynomial).coef)
# maxima may be reordered, so that they vectorize. Sums may not be reordered and products may not be contracted: the
# version of a loop that runs depends on the addresses of its arrays, and the bits would differ from run to run
FASTMATH = {"nsz", "nnan"}


@njit(inline="always")
def exp2_int(exponent):
    """2^exponent for an exponent of at most 127, zero below -126."""
    return I32(max(I32(exponent + I32(127)), I32(0)) << I32(23)).view(F32)


@njit(cache=True, nogil=True)
def is_malformed(bits, labels, frames, count, length, blank):
    """True for invalid lengths, labels outside the alphabet, or a frame with NaN, +inf or only -inf."""
    outputs = bits.shape[1]
    if frames < 0 or frames > length or count < 0 or count > len(labels):
        return True
    for position in range(count):
        if labels[position] < 0 or labels[position] >= outputs or labels[position] == blank:
            return True
    for frame in range(frames):
        largest, negative_infinities = I32(0), 0
        for output in range(outputs):
            magnitude = I32(bits[frame, output] & I32(0x7FFFFFFF))
            largest = I32(max(largest, magnitude))
            negative_infinities += magnitude == I32(0x7F800000) and bits[frame, output] < 0
        if largest > I32(0x7F800000) or negative_infinities == outputs:
            return True
        if largest == I32(0x7F800000):
            for output in range(outputs):
                if bits[frame, output] == I32(0x7F800000):
                    return True
    return False


@njit(cache=True, nogil=True, fastmath=FASTMATH, error_model="numpy")
def fill_emissions(logits, mantissas, exponents):
    """Softmax of [T, V] logits as mantissas and exponents."""
    length, outputs = logits.shape
    floor = F32(-(EMISSION_BITS // length))
    for frame in range(length):
        top = logits[frame, 0]
        for output in range(1, outputs):
            top = max(top, logits[frame, output])
        total = F32(0)
        for output in range(outputs):
            bits = max((logits[frame, output] - top) * LOG2_E, floor)
            whole = np.floor(bits)
            r = bits - whole
            value = (((((P6 * r + P5) * r + P4) * r + P3) * r + P2) * r + P1) * r + P0
            exponent = I32(whole)
            mantissas[frame, output] = value
            exponents[frame, output] = exponent if logits[frame, output] > F32(-3e38) else ZERO_EXPONENT
            total += value * exp2_int(exponent)
        share = F32(1) / total
        for output in range(outputs):
            mantissas[frame, output] *= share


@njit(cache=True, nogil=True, fastmath=FASTMATH, error_model="numpy")
def fill_forward(mantissas, exponents, states, jumps, weights, scales):
    """Fill weights and scales [T, S + 2] with the forward variables; two zero-weight states precede the first."""
    length, count = len(mantissas), len(states)
    weights[0, :] = F32(0)
    scales[:, :2] = ZERO_EXPONENT
    weights[:, :2] = F32(0)
    scales[0, :] = ZERO_EXPONENT
    for state in range(min(2, count)):
        weights[0, state + 2] = mantissas[0, states[state]]
        scales[0, state + 2] = exponents[0, states[state]]
    for frame in range(1, length):
        weight, scale, mantissa, exponent = weights[frame - 1], scales[frame - 1], mantissas[frame], exponents[frame]
        next_weight, next_scale = weights[frame], scales[frame]
        for state in range(count):
            stay, step, jump = scale[state + 2], scale[state + 1], I32(scale[state] + jumps[state])
            top = I32(max(I32(max(stay, step)), jump))
            value = weight[state + 2] * exp2_int(I32(stay - top)) + weight[state + 1] * exp2_int(I32(step - top))
            value = (value + weight[state] * exp2_int(I32(jump - top))) * mantissa[states[state]]
            bits = F32(value).view(I32)
            shift = I32(I32(bits >> I32(23)) - I32(127))
            next_weight[state + 2] = I32(bits - I32(shift << I32(23))).view(F32)
            next_scale[state + 2] = I32(max(I32(I32(top + exponent[states[state]]) + shift), ZERO_EXPONENT))


@njit(cache=True, nogil=True, fastmath=FASTMATH, error_model="numpy")
def backward_step(next_weights, next_scales, jumps, weights, scales):
    """Fill weights and scales [S], one frame's backward variables, from (emission x variable) of the next frame."""
    for state in range(len(weights)):
        stay, step, jump = next_scales[state], next_scales[state + 1], I32(next_scales[state + 2] + jumps[state + 2])
        top = I32(max(I32(max(stay, step)), jump))
        value = next_weights[state] * exp2_int(I32(stay - top)) + next_weights[state + 1] * exp2_int(I32(step - top))
        value = value + next_weights[state + 2] * exp2_int(I32(jump - top))
        bits = F32(value).view(I32)
        shift = I32(I32(bits >> I32(23)) - I32(127))
        weights[state] = I32(bits - I32(shift << I32(23))).view(F32)
        scales[state] = I32(max(I32(top + shift), ZERO_EXPONENT))


@njit(cache=True, nogil=True, fastmath=FASTMATH, error_model="numpy")
def fill_occupancies(weights, scales, backward_weights, backward_scales, states, occupancies):
    """Fill occupancies [S] with the unnormalized probability of each state at one frame; return their sum."""
    top = I32(2 * ZERO_EXPONENT)
    for state in range(len(states)):
        top = I32(max(top, I32(scales[state + 2] + backward_scales[state])))
    total = F32(0)
    for state in range(len(states)):
        occupancies[state] = (
            weights[state + 2]
            * backward_weights[state]
            * exp2_int(I32(I32(scales[state + 2] + backward_scales[state]) - top))
        )
        total += occupancies[state]
    return total


@njit(cache=True, nogil=True, fastmath=FASTMATH, error_model="numpy")
def fill_gradient(mantissas, exponents, states, jumps, weights, scales, gradient):
    """Sweep backward over the frames and write the gradient [T, V]: softmax minus the state probabilities by label."""
    (length, outputs), count = mantissas.shape, len(states)
    backward_weights, backward_scales = np.zeros(count, F32), np.full(count, ZERO_EXPONENT, I32)
    next_weights, next_scales = np.zeros(count + 2, F32), np.full(count + 2, ZERO_EXPONENT, I32)
    occupancies, label_probs = np.empty(count, F32), np.empty(outputs, F32)
    backward_weights[max(count - 2, 0) :] = F32(1)
    backward_scales[max(count - 2, 0) :] = I32(0)
    for frame in range(length - 1, -1, -1):
        mantissa, exponent = mantissas[frame], exponents[frame]
        if frame < length - 1:
            backward_step(next_weights, next_scales, jumps, backward_weights, backward_scales)
        normal = F32(1) / fill_occupancies(
            weights[frame], scales[frame], backward_weights, backward_scales, states, occupancies
        )
        label_probs[:] = F32(0)
        for state in range(count):
            label_probs[states[state]] += occupancies[state]
        for output in range(outputs):
            gradient[frame, output] = mantissa[output] * exp2_int(exponent[output]) - label_probs[output] * normal
        for state in range(count):
            next_weights[state] = backward_weights[state] * mantissa[states[state]]
            next_scales[state] = I32(max(I32(backward_scales[state] + exponent[states[state]]), ZERO_EXPONENT))


@njit(cache=True, nogil=True)
def path_loss(weights, scales):
    """Minus the log of the last two states' weights at the last frame; inf when no path ends there."""
    one, two = scales[-1, -1], scales[-1, -2]
    top = max(one, two)
    if top < ZERO_EXPONENT // 4 * 3:
        return np.inf
    total = weights[-1, -1] * 2.0 ** (one - top) + weights[-1, -2] * 2.0 ** (two - top)
    return -(np.log(total) + top * np.log(2.0))


@njit(cache=True, nogil=True)
def loss_and_gradient_rows(logits, bits, frame_lengths, labels, label_lengths, blank, losses, gradient):
    """Fill losses [B] and gradient [B, T, V] (zeros on entry); `bits` is an int32 view of the logits."""
    (frames_max, outputs), max_labels = logits.shape[1:], labels.shape[1]
    mantissas, exponents = np.empty((frames_max, outputs), F32), np.empty((frames_max, outputs), I32)
    capacity = frames_max * (2 * max_labels + 3)
    all_weights, all_scales = np.empty(capacity, F32), np.empty(capacity, I32)
    for row in range(len(logits)):
        frames, count = frame_lengths[row], label_lengths[row]
        if is_malformed(bits[row], labels[row], frames, count, frames_max, blank):
            losses[row] = np.nan
            continue
        if frames == 0:
            losses[row] = 0.0 if count == 0 else np.inf
            continue
        width = 2 * count + 3
        states, jumps = np.full(width - 2, blank, I32), np.full(width, ZERO_EXPONENT, I32)
        for position in range(count):
            states[2 * position + 1] = labels[row, position]
            if position > 0 and labels[row, position] != labels[row, position - 1]:
                jumps[2 * position + 1] = 0
        weights = all_weights[: frames * width].reshape(frames, width)
        scales = all_scales[: frames * width].reshape(frames, width)
        row_mantissas, row_exponents = mantissas[:frames], exponents[:frames]
        fill_emissions(logits[row, :frames], row_mantissas, row_exponents)
        fill_forward(row_mantissas, row_exponents, states, jumps, weights, scales)
        losses[row] = path_loss(weights, scales)
        if losses[row] < np.inf:
            fill_gradient(row_mantissas, row_exponents, states, jumps, weights, scales, gradient[row, :frames])

"""The loops of the CPU's CTC, compiled by numba: import it only where they are about to run."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.polynomial import Chebyshev, Polynomial

F, N = np.float32, np.int32
NONE = N(-(1 << 29))  # exponent of weight zero; what is below NONE / 4 * 3 was NONE somewhere
REACH = 1 << 28  # bits that the emissions of a whole row may span: a lesser probability counts as the least one
LOG2_E = F(1.4426950408889634)
# 2^r on [0, 1) as a polynomial, to 3e-9
P0, P1, P2, P3, P4, P5, P6 = map(F, Chebyshev.interpolate(np.exp2, 6, [0, 1]).convert(kind=Polynomial).coef)
# maxima may be taken in any order, so that they vectorise; sums may not, nor products be contracted: which version of a
# loop runs depends on where its arrays happen to lie, and one run would not have the bits of the next
FREE = {"nsz", "nnan"}


@njit(inline="always")
def power(exponent):
    """2^exponent for an exponent of at most 127, zero below -126."""
    return N(max(N(exponent + N(127)), N(0)) << N(23)).view(F)


@njit(cache=True, nogil=True)
def malformed(bits, labels, frames, count, length, blank):
    """Whether a row means nothing: lengths beyond the arrays, stray labels, NaN, +inf or only -inf in a frame."""
    size = bits.shape[1]
    if frames < 0 or frames > length or count < 0 or count > len(labels):
        return True
    for place in range(count):
        if labels[place] < 0 or labels[place] >= size or labels[place] == blank:
            return True
    for time in range(frames):
        largest, endless = N(0), 0
        for output in range(size):
            magnitude = N(bits[time, output] & N(0x7FFFFFFF))
            largest = N(max(largest, magnitude))
            endless += magnitude == N(0x7F800000) and bits[time, output] < 0
        if largest > N(0x7F800000) or endless == size:
            return True
        if largest == N(0x7F800000):
            for output in range(size):
                if bits[time, output] == N(0x7F800000):
                    return True
    return False


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
def emit(logits, mantissas, exponents):
    """Softmax of [T, V] logits as mantissas and exponents."""
    length, size = logits.shape
    floor = F(-(REACH // length))
    for time in range(length):
        top = logits[time, 0]
        for output in range(1, size):
            top = max(top, logits[time, output])
        total = F(0)
        for output in range(size):
            bits = max((logits[time, output] - top) * LOG2_E, floor)
            whole = np.floor(bits)
            r = bits - whole
            value = (((((P6 * r + P5) * r + P4) * r + P3) * r + P2) * r + P1) * r + P0
            exponent = N(whole)
            mantissas[time, output] = value
            exponents[time, output] = exponent if logits[time, output] > F(-3e38) else NONE
            total += value * power(exponent)
        share = F(1) / total
        for output in range(size):
            mantissas[time, output] *= share


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
def ahead(mantissas, exponents, states, jumps, weights, scales):
    """Fill weights and scales [T, S + 2] with the forward variables; two dead states stand before the first."""
    length, count = len(mantissas), len(states)
    weights[0, :] = F(0)
    scales[:, :2] = NONE
    weights[:, :2] = F(0)
    scales[0, :] = NONE
    for state in range(min(2, count)):
        weights[0, state + 2] = mantissas[0, states[state]]
        scales[0, state + 2] = exponents[0, states[state]]
    for time in range(1, length):
        w, x, p, e = weights[time - 1], scales[time - 1], mantissas[time], exponents[time]
        w_next, x_next = weights[time], scales[time]
        for state in range(count):
            stay, step, jump = x[state + 2], x[state + 1], N(x[state] + jumps[state])
            top = N(max(N(max(stay, step)), jump))
            value = w[state + 2] * power(N(stay - top)) + w[state + 1] * power(N(step - top))
            value = (value + w[state] * power(N(jump - top))) * p[states[state]]
            bits = F(value).view(N)
            shift = N(N(bits >> N(23)) - N(127))
            w_next[state + 2] = N(bits - N(shift << N(23))).view(F)
            x_next[state + 2] = N(max(N(N(top + e[states[state]]) + shift), NONE))


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
def back(later_w, later_x, jumps, w, x):
    """One frame of the backward variables, w and x [S], from emission times variable of the frame after it."""
    for state in range(len(w)):
        stay, step, jump = later_x[state], later_x[state + 1], N(later_x[state + 2] + jumps[state + 2])
        top = N(max(N(max(stay, step)), jump))
        value = later_w[state] * power(N(stay - top)) + later_w[state + 1] * power(N(step - top))
        value = value + later_w[state + 2] * power(N(jump - top))
        bits = F(value).view(N)
        shift = N(N(bits >> N(23)) - N(127))
        w[state] = N(bits - N(shift << N(23))).view(F)
        x[state] = N(max(N(top + shift), NONE))


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
def occupy(weights, scales, w, x, states, shares):
    """Put into shares [S] the unnormalised probability of each state at one frame; return their sum."""
    top = N(2 * NONE)
    for state in range(len(states)):
        top = N(max(top, N(scales[state + 2] + x[state])))
    total = F(0)
    for state in range(len(states)):
        shares[state] = weights[state + 2] * w[state] * power(N(N(scales[state + 2] + x[state]) - top))
        total += shares[state]
    return total


@njit(cache=True, nogil=True, fastmath=FREE, error_model="numpy")
def differentiate(mantissas, exponents, states, jumps, weights, scales, gradient):
    """Sweep back over the frames and write the gradient [T, V]: softmax minus the states' probabilities by label."""
    (length, size), count = mantissas.shape, len(states)
    w, x = np.zeros(count, F), np.full(count, NONE, N)
    later_w, later_x = np.zeros(count + 2, F), np.full(count + 2, NONE, N)
    shares, spoken = np.empty(count, F), np.empty(size, F)
    w[max(count - 2, 0) :] = F(1)
    x[max(count - 2, 0) :] = N(0)
    for time in range(length - 1, -1, -1):
        p, e = mantissas[time], exponents[time]
        if time < length - 1:
            back(later_w, later_x, jumps, w, x)
        normal = F(1) / occupy(weights[time], scales[time], w, x, states, shares)
        spoken[:] = F(0)
        for state in range(count):
            spoken[states[state]] += shares[state]
        for output in range(size):
            gradient[time, output] = p[output] * power(e[output]) - spoken[output] * normal
        for state in range(count):
            later_w[state] = w[state] * p[states[state]]
            later_x[state] = N(max(N(x[state] + e[states[state]]), NONE))


@njit(cache=True, nogil=True)
def loss_of(weights, scales):
    """Minus the log of the last two states' weights at the last frame; inf where no path arrives."""
    one, two = scales[-1, -1], scales[-1, -2]
    top = max(one, two)
    if top < NONE // 4 * 3:
        return np.inf
    total = weights[-1, -1] * 2.0 ** (one - top) + weights[-1, -2] * 2.0 ** (two - top)
    return -(np.log(total) + top * np.log(2.0))


@njit(cache=True, nogil=True)
def rows(logits, bits, frame_lengths, labels, label_lengths, blank, losses, gradient):
    """Fill losses [B] and gradient [B, T, V] (zeros before); `bits` are the logits seen as integers."""
    (length, size), longest = logits.shape[1:], labels.shape[1]
    mantissas, exponents = np.empty((length, size), F), np.empty((length, size), N)
    room = length * (2 * longest + 3)
    all_weights, all_scales = np.empty(room, F), np.empty(room, N)
    for row in range(len(logits)):
        frames, count = frame_lengths[row], label_lengths[row]
        if malformed(bits[row], labels[row], frames, count, length, blank):
            losses[row] = np.nan
            continue
        if frames == 0:
            losses[row] = 0.0 if count == 0 else np.inf
            continue
        wide = 2 * count + 3
        states, jumps = np.full(wide - 2, blank, N), np.full(wide, NONE, N)
        for place in range(count):
            states[2 * place + 1] = labels[row, place]
            if place > 0 and labels[row, place] != labels[row, place - 1]:
                jumps[2 * place + 1] = 0
        weights = all_weights[: frames * wide].reshape(frames, wide)
        scales = all_scales[: frames * wide].reshape(frames, wide)
        p, e = mantissas[:frames], exponents[:frames]
        emit(logits[row, :frames], p, e)
        ahead(p, e, states, jumps, weights, scales)
        losses[row] = loss_of(weights, scales)
        if losses[row] < np.inf:
            differentiate(p, e, states, jumps, weights, scales, gradient[row, :frames])

"""CTC by two other roads in float64: the sum over all paths, and the textbook recursions; and batches to try."""

from __future__ import annotations

import itertools

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def collapse(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def loss_by_paths(logits: np.ndarray, labels, blank: int) -> float:
    """Minus log of the probabilities of every path [T] over V that collapses to the labels, summed one by one."""
    probability = np.exp(log_softmax(logits))
    length, size = probability.shape
    total = 0.0
    for path in itertools.product(range(size), repeat=length):
        if collapse(path, blank) == tuple(labels):
            total += np.prod(probability[np.arange(length), path])
    return -np.log(total) if total else np.inf


def loss_by_recursion(logits: np.ndarray, labels, blank: int) -> tuple[float, np.ndarray]:
    """(loss, gradient [T, V]) of one row, forward and backward variables as in Graves et al. (2006)."""
    log_probs = log_softmax(logits)
    length, size = log_probs.shape
    states = [blank]
    for label in labels:
        states += [int(label), blank]
    count = len(states)
    forward, backward = np.full((length, count), -np.inf), np.full((length, count), -np.inf)
    forward[0, :2] = log_probs[0, states[:2]]
    backward[-1, -2:] = 0.0
    for frame in range(1, length):
        for state in range(count):
            terms_before = [forward[frame - 1, state]]
            terms_before += [forward[frame - 1, state - 1]] if state else []
            if state > 1 and states[state] != blank and states[state] != states[state - 2]:
                terms_before.append(forward[frame - 1, state - 2])
            forward[frame, state] = np.logaddexp.reduce(terms_before) + log_probs[frame, states[state]]
    for frame in range(length - 2, -1, -1):
        next_weights = backward[frame + 1] + log_probs[frame + 1, states]
        for state in range(count):
            terms = [next_weights[state]]
            terms += [next_weights[state + 1]] if state + 1 < count else []
            if state + 2 < count and states[state + 2] != blank and states[state + 2] != states[state]:
                terms.append(next_weights[state + 2])
            backward[frame, state] = np.logaddexp.reduce(terms)
    likelihood = np.logaddexp.reduce(forward[-1, -2:])
    if likelihood == -np.inf:
        return np.inf, np.zeros((length, size))
    label_probs = np.zeros((length, size))
    np.add.at(label_probs.T, states, np.exp(forward + backward - likelihood).T)
    return -likelihood, np.exp(log_probs) - label_probs


def losses_and_gradients(logits, frame_lengths, labels, label_lengths, blank=0) -> tuple[np.ndarray, np.ndarray]:
    """Losses [B] and gradient [B, T, V] by recursion, gradient zero on padding and where the loss is inf."""
    losses, gradient = np.zeros(len(logits)), np.zeros(logits.shape)
    for row, (frames, count) in enumerate(zip(frame_lengths, label_lengths, strict=True)):
        if frames == 0:
            losses[row] = np.inf if count else 0.0
            continue
        losses[row], gradient[row, :frames] = loss_by_recursion(logits[row, :frames], labels[row, :count], blank)
    return losses, gradient


def random_batch(seed: int, rows: int, length: int, longest: int, size: int, blank: int = 0, scale: float = 2.0):
    """Random logits, lengths (one full, one label row empty where there is room) and labels with many repeats."""
    draw = np.random.default_rng(seed)
    logits = (draw.standard_normal((rows, length, size)) * scale).astype(np.float32)
    frame_lengths = draw.integers(1, length + 1, rows).astype(np.int32)
    label_lengths = draw.integers(0, longest + 1, rows).astype(np.int32)
    frame_lengths[0], label_lengths[0] = length, longest
    if rows > 1:
        label_lengths[1] = 0
    alphabet = np.array([letter for letter in range(size) if letter != blank], np.int32)
    labels = draw.choice(alphabet, (rows, longest)) if len(alphabet) else np.full((rows, longest), blank, np.int32)
    repeat = draw.random((rows, longest)) < 0.3
    for position in range(1, longest):
        labels[:, position] = np.where(repeat[:, position], labels[:, position - 1], labels[:, position])
    return logits, frame_lengths, labels.astype(np.int32), label_lengths

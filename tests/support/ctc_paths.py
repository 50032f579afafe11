"""CTC by brute force: sums over all paths of random log-probabilities."""

import itertools

import numpy as np

WIDE = 100_000


def random_log_probs(frames: int, size: int, seed: int, spread: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(frames, size)) * spread
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def collapsed(path, blank: int) -> tuple[int, ...]:
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def by_paths(log_probs: np.ndarray, blank: int) -> dict[tuple[int, ...], float]:
    """The log probability of every labelling: the sum over all of its paths, one by one."""
    frames, size = log_probs.shape
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(size), repeat=frames):
        labels = collapsed(path, blank)
        found[labels] = found.get(labels, 0.0) + np.exp(log_probs[range(frames), path].sum())
    return {labels: float(np.log(total)) for labels, total in found.items()}

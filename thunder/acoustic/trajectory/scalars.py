"""The trajectory of an utterance: seven causal scalars a frame, from frozen features and a fixed codebook.

Nothing here is learned. A scalar of frame t depends on frames up to t only, "frame" being one of the frozen features
(a Whisper encoder has seen the whole window by then). docs/explanation/modes.md gives the definitions; the
names of the scalars are the published ones, their formulas are ours.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

SCHEMA = "thunder.trajectory/1"
SCALARS = (
    "commitment", "uncertainty", "transition_pressure", "recovery_margin", "phase_stiffness", "novelty", "stability",
)  # fmt: skip
COMMITMENT, UNCERTAINTY, PRESSURE, MARGIN, STIFFNESS, NOVELTY, STABILITY = range(7)
FAST, SLOW = 4.0, 25.0  # time constants in frames
TEMPERATURE = 1.0
LEAST_VARIANCE = 0.05  # of features with unit variance: a flat past makes no frame a novelty
EPSILON = 1e-6


def standardised(features: mx.array) -> mx.array:
    """[B, T, D] float32: each frame with mean 0 and variance 1."""
    x = features.astype(mx.float32)
    return (x - x.mean(-1, keepdims=True)) * mx.rsqrt(x.var(-1, keepdims=True) + 1e-5)


def scalars(features: mx.array, codebook: mx.array) -> mx.array:
    """[B, T, 7] float32 in the order of SCALARS, from features [B, T, D] and codes [K, D] (K >= 2)."""
    z = standardised(features)
    posterior = code_posterior(z, codebook)
    uncertainty = -(posterior * mx.log(posterior + 1e-12)).sum(-1) / np.log(codebook.shape[0])
    recent = before(average(posterior, FAST))
    commitment = (1 - uncertainty) * mx.minimum(posterior, recent).sum(-1)
    pressure = (commitment - before(commitment)) - (uncertainty - before(uncertainty))
    best = mx.sort(posterior, -1)[..., -2:]
    velocity = z - before(z)
    heading = before(average(velocity, FAST))
    stiffness = average(mx.maximum(cosine(velocity, heading), 0)[..., None], FAST)[..., 0]
    return mx.stack(
        [commitment, uncertainty, pressure, best[..., 1] - best[..., 0], stiffness, novelty(z), stability(velocity)], -1
    )


def code_posterior(z: mx.array, codebook: mx.array) -> mx.array:
    """[B, T, K]: softmax over codes of minus the squared distance, on the scale of sqrt(D)."""
    # a frame's own square is the same for all codes, and softmax does not see it
    closeness = z @ codebook.T - 0.5 * (codebook * codebook).sum(-1)
    return mx.softmax(closeness / (TEMPERATURE * z.shape[-1] ** 0.5), -1)


def novelty(z: mx.array) -> mx.array:
    """[B, T]: 1 - exp of minus half the mean squared deviation from the slow past, in its own variance."""
    slow = average(z, SLOW)
    mean, variance = before(slow), before(average(mx.square(z - slow), SLOW)) + LEAST_VARIANCE
    return 1 - mx.exp(-0.5 * (mx.square(z - mean) / variance).mean(-1))


def stability(velocity: mx.array) -> mx.array:
    """[B, T]: exp of minus the acceleration, as a share of the slow average of speed."""
    speed = mx.sqrt(mx.square(velocity).mean(-1) + EPSILON)
    acceleration = mx.sqrt(mx.square(velocity - before(velocity)).mean(-1) + EPSILON)
    return mx.exp(-acceleration / (average(speed[..., None], SLOW)[..., 0] + EPSILON))


def average(x: mx.array, frames: float) -> mx.array:
    """[B, T, N]: normalised exponential average over frames up to each one, time constant in frames."""
    place = np.arange(x.shape[1])
    age = place[:, None] - place[None]
    weights = np.where(age >= 0, np.exp(-np.maximum(age, 0) / frames), 0.0)
    return mx.array((weights / weights.sum(1, keepdims=True)).astype(np.float32)) @ x


def before(x: mx.array) -> mx.array:
    """[B, T, ...]: the frame before each; before the first one comes itself, so that its differences are 0."""
    return mx.concatenate([x[:, :1], x[:, :-1]], 1)


def cosine(a: mx.array, b: mx.array) -> mx.array:
    """[B, T]: of vectors [B, T, N]; 0 where one of them is 0."""
    return (a * b).sum(-1) / (mx.sqrt(mx.square(a).sum(-1) * mx.square(b).sum(-1)) + EPSILON)


def fit_codebook(frames: np.ndarray, codes: int, seed: int, rounds: int = 20) -> np.ndarray:
    """[K, D] float32: k-means (k-means++ start, then Lloyd) over standardised frames [N, D].

    K is `codes`, or the number of frames where there are fewer. The same frames and seed give the same codes.
    """
    draw = np.random.Generator(np.random.PCG64([seed, 7]))
    z = np.array(standardised(mx.array(frames[None].astype(np.float32))))[0]
    centres = [z[draw.integers(len(z))]]
    nearest = np.square(z - centres[0]).sum(1)
    for _ in range(min(codes, len(z)) - 1):
        total = nearest.sum()
        pick = np.searchsorted(np.cumsum(nearest), draw.random() * total) if total > 0 else draw.integers(len(z))
        centres.append(z[min(int(pick), len(z) - 1)])
        nearest = np.minimum(nearest, np.square(z - centres[-1]).sum(1))
    book = np.array(centres)
    for _ in range(rounds):
        owner = (z @ book.T - 0.5 * np.square(book).sum(1)).argmax(1)
        sums, counts = np.zeros_like(book), np.bincount(owner, minlength=len(book))
        np.add.at(sums, owner, z)
        moved = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], book).astype(np.float32)
        if np.array_equal(moved, book):
            break
        book = moved
    return book

"""The trajectory of an utterance: seven causal scalars a frame, from frozen features and a fixed codebook.

Nothing here is learned. A scalar of frame t depends on frames up to t only, "frame" being one of the frozen features
(a Whisper encoder has seen the whole window by then). docs/explanation/modes.md gives the definitions; the
names of the scalars are the published ones, their formulas are of this project.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

SCHEMA = "thunder.trajectory/1"
SCALARS = (
    "commitment", "uncertainty", "transition_pressure", "recovery_margin", "phase_stiffness", "novelty", "stability",
)  # fmt: skip
COMMITMENT, UNCERTAINTY, PRESSURE, MARGIN, STIFFNESS, NOVELTY, STABILITY = range(7)
FAST_FRAMES, SLOW_FRAMES = 4.0, 25.0  # time constants in frames
TEMPERATURE = 1.0
MIN_VARIANCE = 0.05  # for features with unit variance: limits novelty after a constant past
EPSILON = 1e-6


def standardize_frames(features: mx.array) -> mx.array:
    """[B, T, D] float32: each frame with mean 0 and variance 1."""
    x = features.astype(mx.float32)
    return (x - x.mean(-1, keepdims=True)) * mx.rsqrt(x.var(-1, keepdims=True) + 1e-5)


def trajectory_scalars(features: mx.array, codebook: mx.array) -> mx.array:
    """[B, T, 7] float32 in the order of SCALARS, from features [B, T, D] and codes [K, D] (K >= 2)."""
    z = standardize_frames(features)
    posterior = code_posterior(z, codebook)
    uncertainty = -(posterior * mx.log(posterior + 1e-12)).sum(-1) / np.log(codebook.shape[0])
    recent = previous_frame(exponential_average(posterior, FAST_FRAMES))
    commitment = (1 - uncertainty) * mx.minimum(posterior, recent).sum(-1)
    pressure = (commitment - previous_frame(commitment)) - (uncertainty - previous_frame(uncertainty))
    top_two = mx.sort(posterior, -1)[..., -2:]
    velocity = z - previous_frame(z)
    heading = previous_frame(exponential_average(velocity, FAST_FRAMES))
    stiffness = exponential_average(mx.maximum(cosine_similarity(velocity, heading), 0)[..., None], FAST_FRAMES)[..., 0]
    return mx.stack(
        [
            commitment,
            uncertainty,
            pressure,
            top_two[..., 1] - top_two[..., 0],
            stiffness,
            novelty(z),
            stability(velocity),
        ],
        -1,
    )


def code_posterior(z: mx.array, codebook: mx.array) -> mx.array:
    """[B, T, K]: softmax over codes of minus the squared distance, scaled by sqrt(D)."""
    # the frame's squared norm is the same for all codes and cancels in the softmax
    closeness = z @ codebook.T - 0.5 * (codebook * codebook).sum(-1)
    return mx.softmax(closeness / (TEMPERATURE * z.shape[-1] ** 0.5), -1)


def novelty(z: mx.array) -> mx.array:
    """[B, T]: 1 - exp of minus half the mean squared deviation from the slow average, over its own variance."""
    slow = exponential_average(z, SLOW_FRAMES)
    mean, variance = (
        previous_frame(slow),
        previous_frame(exponential_average(mx.square(z - slow), SLOW_FRAMES)) + MIN_VARIANCE,
    )
    return 1 - mx.exp(-0.5 * (mx.square(z - mean) / variance).mean(-1))


def stability(velocity: mx.array) -> mx.array:
    """[B, T]: exp of minus the ratio of acceleration to the slow average of speed."""
    speed = mx.sqrt(mx.square(velocity).mean(-1) + EPSILON)
    acceleration = mx.sqrt(mx.square(velocity - previous_frame(velocity)).mean(-1) + EPSILON)
    return mx.exp(-acceleration / (exponential_average(speed[..., None], SLOW_FRAMES)[..., 0] + EPSILON))


def exponential_average(x: mx.array, frames: float) -> mx.array:
    """[B, T, N]: normalized causal exponential average over frames; `frames`: time constant in frames."""
    position = np.arange(x.shape[1])
    age = position[:, None] - position[None]
    weights = np.where(age >= 0, np.exp(-np.maximum(age, 0) / frames), 0.0)
    return mx.array((weights / weights.sum(1, keepdims=True)).astype(np.float32)) @ x


def previous_frame(x: mx.array) -> mx.array:
    """[B, T, ...]: each frame's predecessor; the first frame is its own, so its differences are 0."""
    return mx.concatenate([x[:, :1], x[:, :-1]], 1)


def cosine_similarity(a: mx.array, b: mx.array) -> mx.array:
    """[B, T] for vectors [B, T, N]; 0 if either vector is 0."""
    return (a * b).sum(-1) / (mx.sqrt(mx.square(a).sum(-1) * mx.square(b).sum(-1)) + EPSILON)


def fit_codebook(frames: np.ndarray, codes: int, seed: int, iterations: int = 20) -> np.ndarray:
    """[K, D] float32: k-means (k-means++ initialization, then Lloyd) over standardized frames [N, D].

    K is `codes`, or the number of frames if that is smaller. The same frames and seed give the same codes.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 7]))
    z = np.array(standardize_frames(mx.array(frames[None].astype(np.float32))))[0]
    centers = [z[rng.integers(len(z))]]
    squared_distance = np.square(z - centers[0]).sum(1)
    for _ in range(min(codes, len(z)) - 1):
        total = squared_distance.sum()
        index = (
            np.searchsorted(np.cumsum(squared_distance), rng.random() * total) if total > 0 else rng.integers(len(z))
        )
        centers.append(z[min(int(index), len(z) - 1)])
        squared_distance = np.minimum(squared_distance, np.square(z - centers[-1]).sum(1))
    codebook = np.array(centers)
    for _ in range(iterations):
        nearest_code = (z @ codebook.T - 0.5 * np.square(codebook).sum(1)).argmax(1)
        sums, counts = np.zeros_like(codebook), np.bincount(nearest_code, minlength=len(codebook))
        np.add.at(sums, nearest_code, z)
        updated = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], codebook).astype(np.float32)
        if np.array_equal(updated, codebook):
            break
        codebook = updated
    return codebook

"""The seven scalars against a plain loop in float64; causality; the codebook; partitions by hand."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from thunder.acoustic.trajectory import scalars
from thunder.acoustic.trajectory.scalars import SCALARS


def by_loop(features: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """[T, 7] of [T, D], from the definitions of docs/explanation/modes.md, in float64."""
    x = features.astype(np.float64)
    z = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    length, width = z.shape

    def ema(values, tau):
        out = []
        for t in range(len(values)):
            weights = np.exp(-np.arange(t, -1, -1) / tau)
            out.append(np.tensordot(weights / weights.sum(), values[: t + 1], 1))
        return np.array(out)

    def past(values, t):
        return values[max(t - 1, 0)]

    distance = ((z[:, None] - codebook[None]) ** 2).sum(-1) / (2 * np.sqrt(width))
    p = np.exp(-distance + distance.min(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    u = -(p * np.log(p + 1e-12)).sum(1) / np.log(len(codebook))
    recent = ema(p, 4)
    c = np.array([(1 - u[t]) * np.minimum(p[t], past(recent, t)).sum() for t in range(length)])
    v = np.array([z[t] - past(z, t) for t in range(length)])
    a = np.array([v[t] - past(v, t) for t in range(length)])
    slow_v, slow_z, speed = ema(v, 4), ema(z, 25), np.sqrt((v**2).mean(1) + 1e-6)
    variance, usual = ema((z - slow_z) ** 2, 25), ema(speed, 25)
    turn = []
    for t in range(length):
        heading = past(slow_v, t)
        turn.append(max(0, v[t] @ heading / (np.sqrt((v[t] @ v[t]) * (heading @ heading)) + 1e-6)))
    stiff, out = ema(np.array(turn), 4), []
    for t in range(length):
        top = np.sort(p[t])
        strange = ((z[t] - past(slow_z, t)) ** 2 / (past(variance, t) + 0.05)).mean()
        out.append([
            c[t], u[t], (c[t] - past(c, t)) - (u[t] - past(u, t)), top[-1] - top[-2], stiff[t],
            1 - np.exp(-0.5 * strange), np.exp(-np.sqrt((a[t] ** 2).mean() + 1e-6) / (usual[t] + 1e-6)),
        ])  # fmt: skip
    return np.array(out)


def speech(rows=2, length=40, width=10, seed=0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    steps = draw.standard_normal((rows, length, width)) * draw.choice([0.1, 1.5], (rows, length, 1))
    return np.cumsum(steps, 1).astype(np.float32)


def codes(count=8, width=10) -> np.ndarray:
    return np.random.default_rng(9).standard_normal((count, width)).astype(np.float32)


def test_equals_the_definitions():
    features, book = speech(), codes()
    found = np.array(scalars.trajectory_scalars(mx.array(features), mx.array(book)))
    assert found.shape == (2, 40, 7) and len(SCALARS) == 7
    for row in range(2):
        np.testing.assert_allclose(found[row], by_loop(features[row], book), atol=2e-5)
    assert (found.std((0, 1)) > 1e-3).all(), "each must move for the comparison to mean anything"


@given(st.integers(0, 2**31), st.integers(2, 30), st.floats(1e-3, 1e3))
@limits(max_examples=15)
def test_ranges_hold_for_any_features(seed, length, scale):
    features = mx.array(speech(1, length, seed=seed) * scale)
    found = np.array(scalars.trajectory_scalars(features, mx.array(codes())))[0]
    assert np.isfinite(found).all()
    for name, low, high in zip(SCALARS, (0, 0, -2, 0, 0, 0, 0), (1, 1, 2, 1, 1, 1, 1), strict=True):
        values = found[:, SCALARS.index(name)]
        assert low - 1e-5 <= values.min() and values.max() <= high + 1e-5, name


@pytest.mark.parametrize("at", [1, 7, 20, 39])
def test_causal_to_the_last_bit(at):
    features, book = speech(), mx.array(codes())
    later = features.copy()
    later[:, at:] = -3 * later[:, at:] + 5
    one, two = (np.array(scalars.trajectory_scalars(mx.array(x), book)) for x in (features, later))
    assert np.array_equal(one[:, :at], two[:, :at])
    assert not np.array_equal(one[:, at], two[:, at])


def test_a_constant_utterance_is_calm():
    flat = mx.array(np.repeat(speech(1, 1), 20, axis=1))
    found = dict(zip(SCALARS, np.array(scalars.trajectory_scalars(flat, mx.array(codes())))[0].T, strict=True))
    np.testing.assert_allclose(found["novelty"], 0, atol=1e-6)
    np.testing.assert_allclose(found["transition_pressure"], 0, atol=1e-5)
    np.testing.assert_allclose(found["phase_stiffness"], 0, atol=1e-6)


def test_the_codebook_finds_clusters_and_is_a_function_of_its_seed():
    draw = np.random.default_rng(3)
    centres = draw.standard_normal((5, 12)) * 4
    frames = (centres[np.arange(400) % 5] + 0.05 * draw.standard_normal((400, 12))).astype(np.float32)
    book = scalars.fit_codebook(frames, 5, seed=1)
    wanted = np.array(scalars.standardize_frames(mx.array(centres[None].astype(np.float32))))[0]
    distances = np.sqrt(((book[:, None] - wanted[None]) ** 2).sum(-1))
    assert distances.min(0).max() < 0.05 and distances.min(1).max() < 0.05
    assert np.array_equal(book, scalars.fit_codebook(frames, 5, seed=1))
    assert scalars.fit_codebook(frames[:3], 16, seed=1).shape == (3, 12)
    assert np.isfinite(scalars.fit_codebook(np.ones((6, 4), np.float32), 4, seed=0)).all()

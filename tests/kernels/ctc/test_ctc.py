"""CTC loss and gradient against all paths, textbook recursions in float64, torch; and rows that cannot be."""

from __future__ import annotations

import importlib.util

import ctc_oracle as oracle
import mlx.core as mx
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thunder.errors import UsageError
from thunder.kernels.ctc import ctc_loss, is_impossible

CPU = pytest.param(
    "cpu", marks=pytest.mark.skipif(not importlib.util.find_spec("numba"), reason="numba is not installed")
)
both = pytest.mark.parametrize("backend", ["reference", CPU])


def run(arrays, backend, blank=0):
    """Losses [B] and the gradient of the sum of the finite ones, as numpy."""
    logits, frame_lengths, labels, label_lengths = map(mx.array, arrays)

    def total(logits):
        losses = ctc_loss(logits, frame_lengths, labels, label_lengths, blank=blank, backend=backend)
        return mx.where(mx.isfinite(losses), losses, 0.0).sum(), losses

    (_, losses), gradient = mx.value_and_grad(total)(logits)
    return np.array(losses), np.array(gradient)


def assert_equal(arrays, backend, blank=0, gradient_error=1e-5):
    """gradient_error: what is allowed beside one rounding of the largest log-probability.

    The gradient is the exponential of a difference of sums over frames in float32, which are as large as the loss and
    the logits make them: their last digit is the relative error of the result.
    """
    losses, gradient = run(arrays, backend, blank)
    finite = losses[np.isfinite(losses)]
    largest = max(np.abs(finite).max(initial=0), np.abs(arrays[0]).max(initial=0) * arrays[0].shape[1])
    gradient_error += largest * 2.0**-23
    expected, expected_gradient = oracle.losses_and_gradients(*arrays, blank)
    # a small loss is a difference of large numbers too
    np.testing.assert_allclose(losses, expected, rtol=1e-6, atol=1e-6 + largest * 2.0**-23)
    np.testing.assert_allclose(gradient, expected_gradient, atol=gradient_error)
    return losses


@both
@pytest.mark.parametrize("labels", [[], [1], [1, 1], [1, 2], [2, 1, 2], [1, 1, 1]])
@pytest.mark.parametrize("length", [1, 3, 5])
def test_the_loss_is_the_sum_over_all_paths(backend, labels, length):
    logits = np.random.default_rng(length).standard_normal((1, length, 3)).astype(np.float32)
    padded = np.array([labels + [0]], np.int32)
    losses, _ = run((logits, np.array([length]), padded, np.array([len(labels)])), backend)
    np.testing.assert_allclose(losses[0], oracle.loss_by_paths(logits[0], labels, 0), rtol=1e-6)


@pytest.mark.parametrize("blank", [0, 2])
def test_the_oracle_itself_equals_paths_and_differences(blank):
    logits = np.random.default_rng(0).standard_normal((5, 3))
    labels = [1, 1]
    loss, gradient = oracle.loss_by_recursion(logits, labels, blank)
    np.testing.assert_allclose(loss, oracle.loss_by_paths(logits, labels, blank), rtol=1e-12)
    for place in np.ndindex(logits.shape):
        nudge = np.zeros_like(logits)
        nudge[place] = 1e-6
        ends = [oracle.loss_by_paths(logits + way * nudge, labels, blank) for way in (1, -1)]
        np.testing.assert_allclose(gradient[place], (ends[0] - ends[1]) / 2e-6, atol=1e-8)


@both
@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**16),
    rows=st.integers(1, 4),
    length=st.integers(1, 40),
    longest=st.integers(0, 9),
    size=st.integers(2, 12),
    scale=st.sampled_from([0.0, 1.0, 30.0]),
    last_is_blank=st.booleans(),
)
@example(seed=166, rows=1, length=28, longest=9, size=9, scale=30.0, last_is_blank=False)
def test_random_batches_equal_the_recursions(backend, seed, rows, length, longest, size, scale, last_is_blank):
    blank = size - 1 if last_is_blank else 0
    arrays = oracle.random_batch(seed, rows, length, longest, size, blank, scale)
    losses = assert_equal(arrays, backend, blank)
    flags = is_impossible(*map(mx.array, arrays[1:]))
    assert np.array_equal(np.array(flags), np.isinf(losses))


@pytest.mark.expensive
@both
def test_long_rows_keep_their_gradient(backend):
    arrays = oracle.random_batch(3, 2, 700, 60, 20)
    arrays[1][:] = [700, 650]
    assert_equal(arrays, backend, gradient_error=2e-4)


@both
def test_confident_and_wrong_logits_stay_finite(backend):
    logits, *rest = oracle.random_batch(5, 4, 30, 6, 8)
    rest[0][:] = 30
    for scale in (1e2, 1e4, 1e6):
        losses, gradient = run((logits * np.float32(scale), *rest), backend)
        assert np.isfinite(losses).all() and np.isfinite(gradient).all()
        assert np.abs(gradient).max() <= 1.0 + 1e-6


@both
def test_rows_that_cannot_be_are_told_and_touch_no_other(backend):
    logits, frames, labels, counts = oracle.random_batch(7, 10, 12, 4, 6)
    frames[:], counts[:], labels[:] = 12, 3, [1, 2, 3, 4]
    good, good_gradient = run((logits, frames, labels, counts), backend)
    bad = logits.copy(), frames.copy(), labels.copy(), counts.copy()
    bad[1][1] = 2  # fewer frames than labels
    bad[1][2] = 0  # no frame
    bad[2][3, 1] = 0  # a label that is the blank
    bad[2][4, 2] = 6  # a label outside the alphabet
    bad[1][5] = 13  # more frames than there are
    bad[3][6] = -1
    bad[0][7, 4, 2] = np.nan
    bad[0][8, 5] = -np.inf  # a frame without a distribution
    bad[0][9, :, 2] = -np.inf  # a label that is ruled out
    losses, gradient = run(bad, backend)
    assert losses[0] == pytest.approx(good[0], rel=1e-6)
    assert np.allclose(gradient[0], good_gradient[0], atol=1e-6)
    assert np.isinf(losses[[1, 2, 9]]).all() and np.isnan(losses[3:9]).all()
    assert not gradient[1:].any()


@both
def test_what_lies_beyond_the_lengths_is_never_read(backend):
    logits, frames, labels, counts = oracle.random_batch(9, 3, 10, 5, 6)
    frames[:], counts[:] = [10, 7, 8], [5, 2, 0]
    expected, expected_gradient = run((logits, frames, labels, counts), backend)
    logits[1, 7:], logits[2, 8:], labels[1, 2:], labels[2] = np.nan, np.inf, 99, -5
    losses, gradient = run((logits, frames, labels, counts), backend)
    assert np.array_equal(losses, expected) and np.array_equal(gradient, expected_gradient)


@both
def test_arrays_may_lie_in_memory_in_any_order(backend):
    logits, *rest = oracle.random_batch(19, 3, 14, 4, 6)
    rest = list(map(mx.array, rest))
    transposed = mx.array(np.ascontiguousarray(logits.transpose(2, 1, 0))).transpose(2, 1, 0)
    wide = mx.concatenate([rest[1], rest[1]], 1)[:, :4]
    plain = ctc_loss(mx.array(logits), *rest, backend=backend)
    assert mx.array_equal(ctc_loss(transposed, rest[0], wide, rest[2], backend=backend), plain)


@pytest.mark.expensive
@both
@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_half_precision_logits_are_swept_in_float32(backend, dtype):
    logits, *rest = oracle.random_batch(11, 2, 20, 4, 6)
    half = mx.array(logits).astype(dtype)
    exact = np.array(half.astype(mx.float32))
    expected, _ = oracle.losses_and_gradients(exact, *rest)
    losses = ctc_loss(half, *map(mx.array, rest), backend=backend)
    np.testing.assert_allclose(np.array(losses), expected, rtol=1e-6)
    gradient = mx.grad(lambda x: ctc_loss(x, *map(mx.array, rest), backend=backend)[0])(half)
    assert gradient.dtype == dtype


def test_the_upstream_weight_scales_each_row():
    arrays = oracle.random_batch(13, 3, 15, 4, 6)
    arrays[1][:] = 15
    weights = mx.array([0.5, 0.0, -2.0])
    rest = list(map(mx.array, arrays[1:]))
    gradient = mx.grad(lambda x: (weights * ctc_loss(x, *rest, backend="reference")).sum())(mx.array(arrays[0]))
    expected = oracle.losses_and_gradients(*arrays)[1] * np.array([0.5, 0.0, -2.0])[:, None, None]
    np.testing.assert_allclose(np.array(gradient), expected, atol=1e-5)


@pytest.mark.expensive
def test_compiled_steps_get_the_reference_and_the_same_loss():
    arrays = list(map(mx.array, oracle.random_batch(15, 3, 25, 4, 6)))
    arrays[1] = mx.array([25, 25, 25])
    step = mx.value_and_grad(lambda *some: ctc_loss(*some).sum())
    plain, compiled = step(*arrays), mx.compile(step)(*arrays)
    assert plain[0].item() == pytest.approx(compiled[0].item(), rel=1e-6)
    assert np.allclose(np.array(plain[1]), np.array(compiled[1]), atol=1e-5)


@both
def test_both_errors_lie_below_torchs_own(backend):
    torch = pytest.importorskip("torch")
    arrays = oracle.random_batch(17, 4, 375, 40, 64)
    arrays[1][:] = [375, 300, 350, 290]

    def by_torch(dtype):
        logits = torch.tensor(arrays[0], dtype=dtype, requires_grad=True)
        rest = (torch.tensor(some).long() for some in (arrays[2], arrays[1], arrays[3]))
        losses = torch.nn.functional.ctc_loss(logits.log_softmax(-1).transpose(0, 1), *rest, reduction="none")
        losses.sum().backward()
        return losses.detach().numpy(), logits.grad.numpy()

    exact_loss, exact = by_torch(torch.float64)
    _, single = by_torch(torch.float32)
    losses, gradient = run(arrays, backend)
    np.testing.assert_allclose(losses, exact_loss, rtol=1e-6)
    assert np.abs(gradient - exact).max() < np.abs(single - exact).max()


@pytest.mark.parametrize(
    ("shapes", "blank"),
    [
        (((2, 5, 4), (3,), (2, 3), (2,)), 0),
        (((2, 5, 4), (2,), (1, 3), (2,)), 0),
        (((5, 4), (2,), (2, 3), (2,)), 0),
        (((2, 5, 4), (2,), (2, 3), (2, 1)), 0),
        (((2, 5, 4), (2,), (2, 3), (2,)), 4),
        (((2, 0, 4), (2,), (2, 3), (2,)), 0),
    ],
)
def test_arrays_that_do_not_fit_are_refused(shapes, blank):
    arrays = [mx.zeros(shape, dtype=mx.float32 if len(shape) == 3 else mx.int32) for shape in shapes]
    with pytest.raises(UsageError):
        ctc_loss(*arrays, blank=blank)

"""The fast weights of the head: against a loop over frames in float64, and what must not change."""

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn

from thunder.acoustic.head.ttt import FastWeights, unit_vectors

WIDTH = 24


def adapter(rate=0.5, cap=True, chunk=4, heads=2, dim=8, seed=0) -> FastWeights:
    """One that does something: O is not zero, and the steps depend on the frames."""
    mx.random.seed(seed)
    made = FastWeights(WIDTH, heads, dim, chunk, rate, cap)
    made.output.weight = mx.random.normal(made.output.weight.shape) * 0.3
    made.step.weight = mx.random.normal(made.step.weight.shape)
    mx.eval(made.parameters())
    return made


def frames(rows=3, length=19, seed=1) -> mx.array:
    return mx.random.normal((rows, length, WIDTH), key=mx.random.key(seed))


def mask_of(lengths, length) -> mx.array:
    return (mx.arange(length) < mx.array(lengths)[:, None]).astype(mx.float32)


def by_loop(made: FastWeights, x: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """([length, W], state [H, D, D]) of one utterance, frame by frame in float64 (docs/explanation/modes.md)."""
    weights = {name: np.array(getattr(made, name).weight, np.float64) for name in ("query", "key", "value", "output")}
    x = x[:length].astype(np.float64)

    def norm(z, scale=1.0, bias=0.0):
        return (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-5) * scale + bias

    seen = norm(x, np.array(made.enter.weight, np.float64), np.array(made.enter.bias, np.float64))
    heads, dim = made.heads, made.head_dim
    q, k, v = ((seen @ weights[name].T).reshape(length, heads, dim) for name in ("query", "key", "value"))
    q, k = (z / np.sqrt((z**2).sum(-1, keepdims=True) + 1e-6) for z in (q, k))
    step = seen @ np.array(made.step.weight, np.float64).T + np.array(made.step.bias, np.float64)
    eta = 2 * made.learning_rate / (1 + np.exp(-step))
    state, y = np.zeros((heads, dim, dim)), np.zeros((length, heads, dim))
    for start in range(0, length, made.chunk_size):
        chunk = range(start, min(start + made.chunk_size, length))
        change = np.zeros_like(state)
        for head in range(heads):
            bound = max(sum(abs(k[t, head] @ k[s, head]) for s in chunk) for t in chunk)
            for t in chunk:
                rate = min(eta[t, head], 1 / (bound + 1e-6)) if made.cap else eta[t, head]
                y[t, head] = q[t, head] @ state[head]
                change[head] += rate * np.outer(k[t, head], k[t, head] @ state[head] - v[t, head])
        state = state - change
    return x + norm(y.reshape(length, -1), np.array(made.norm.weight, np.float64)) @ weights["output"].T, state


@pytest.mark.parametrize("chunk", [1, 4, 7, 32])
@pytest.mark.parametrize(("rate", "cap"), [(0.01, True), (0.9, True), (0.3, False)])
def test_equals_a_loop_over_frames(chunk, rate, cap):
    made, x, lengths = adapter(rate, cap, chunk), frames(), [19, 11, 4]
    done = made.adapt(x, mask_of(lengths, 19))
    for row, length in enumerate(lengths):
        out, state = by_loop(made, np.array(x[row]), length)
        # what the norm amplifies of a nearly empty state is rounding
        np.testing.assert_allclose(np.array(done.out[row, :length]), out, atol=2e-4)
        np.testing.assert_allclose(np.array(done.state[row]), state, atol=2e-6)
        assert done.drift[row].item() == pytest.approx(np.linalg.norm(state), rel=1e-5)
    assert float(done.drift.min()) > 0


def test_rate_zero_and_a_fresh_adapter_are_the_identity_to_the_last_bit():
    x, mask = frames(), mask_of([19, 11, 4], 19)
    still = adapter(rate=0.0)
    assert mx.array_equal(still(x, mask), x)
    assert not mx.array_equal(adapter(rate=0.01)(x, mask), x)
    fresh = FastWeights(WIDTH, 2, 8, 4, 0.5, True)
    assert mx.array_equal(fresh(x, mask), x)


def test_nothing_of_one_utterance_reaches_another():
    made, x, mask = adapter(), frames(rows=4), mask_of([19, 19, 9, 13], 19)
    order = [2, 0, 3, 1]
    there, back = made.adapt(x, mask), made.adapt(x[mx.array(order)], mask[mx.array(order)])
    assert mx.array_equal(there.out[mx.array(order)], back.out)
    assert mx.array_equal(there.state[mx.array(order)], back.state)
    louder = mx.concatenate([x[:1], 100 * x[1:]])
    assert mx.array_equal(made(louder, mask)[0], there.out[0])
    again = made.adapt(x, mask)
    assert mx.array_equal(again.out, there.out), "a second call starts from the same weights as the first"


@pytest.mark.parametrize("at", [0, 3, 4, 9, 18])
def test_a_change_of_a_frame_reaches_no_earlier_chunk(at):
    made, x = adapter(chunk=4), frames(rows=1)
    changed = mx.array(np.array(x))
    changed[0, at] = changed[0, at] * 3 + 1
    mask = mask_of([19], 19)
    one, two = np.array(made(x, mask) - x)[0], np.array(made(changed, mask) - changed)[0]
    end = at // 4 * 4 + 4  # what is read in its own chunk comes from earlier ones; its own query is another
    for frame in range(min(end, 19)):
        assert frame == at or np.array_equal(one[frame], two[frame])
    assert end >= 19 or not np.array_equal(one[end:], two[end:])


def test_what_lies_beyond_an_utterance_changes_nothing():
    made, x = adapter(), frames(rows=2)
    noisy = mx.array(np.array(x))
    noisy[1, 11:] = 1e3
    mask = mask_of([19, 11], 19)
    one, two = made.adapt(x, mask), made.adapt(noisy, mask)
    assert mx.array_equal(one.out[1, :11], two.out[1, :11])
    assert mx.array_equal(one.state, two.state) and mx.array_equal(one.capped, two.capped)


@pytest.mark.parametrize("cuts", [(19,), (4, 15), (1, 1, 1, 16), (5, 6, 8), (3, 0, 16)])
def test_a_stream_in_pieces_equals_the_whole(cuts):
    made, x = adapter(), frames(rows=2)
    whole = made.adapt(x, mx.ones((2, 19)))
    at, outs, start = made.start_stream(2, WIDTH), [], 0
    for length in cuts:
        out, at = made.stream(x[:, start : start + length], at)
        outs.append(out)
        start += length
    np.testing.assert_allclose(np.array(mx.concatenate(outs, 1)), np.array(whole.out), atol=1e-5)
    assert at.pending.shape[1] == 19 % 4
    # the last, begun chunk has not taught yet
    until = made.adapt(x[:, :16], mx.ones((2, 16)))
    np.testing.assert_allclose(np.array(at.state), np.array(until.state), atol=1e-6)


def test_the_cap_keeps_the_weights_bounded_where_they_would_diverge():
    x, mask = mx.repeat(frames(1, 1), 400, axis=1), mx.ones((1, 400))  # one frame again and again: the worst case
    free, capped = adapter(rate=1.0, cap=False).adapt(x, mask), adapter(rate=1.0, cap=True).adapt(x, mask)
    assert not float(free.drift[0]) < 1e6, "without the cap it should diverge, or the test shows nothing"
    assert float(capped.drift[0]) < 100
    assert float(capped.capped[0]) == 1 and float(free.capped[0]) == 0
    assert float(adapter(rate=0.01).adapt(frames(), mask_of([19] * 3, 19)).capped.max()) == 0


def test_gradients_reach_every_weight_and_equal_differences():
    made, x, mask = adapter(rate=0.1), frames(2, 9), mask_of([9, 6], 9)
    probe = mx.random.normal(x.shape, key=mx.random.key(5))
    value_and_grad = nn.value_and_grad(made, lambda module: (module(x, mask) * probe).sum())
    _, gradients = value_and_grad(made)
    for name in ("query", "key", "value", "output"):
        weight, gradient = getattr(made, name).weight, gradients[name]["weight"]
        direction = mx.random.normal(weight.shape, key=mx.random.key(7))
        values = []
        for sign in (1, -1):
            getattr(made, name).weight = weight + sign * 2e-3 * direction
            values.append((made(x, mask) * probe).sum().item())
        getattr(made, name).weight = weight
        numeric = (values[0] - values[1]) / 4e-3
        assert (gradient * direction).sum().item() == pytest.approx(numeric, rel=0.02, abs=0.1), name
    assert float(mx.abs(gradients["step"]["weight"]).max()) > 0


def test_unit_vectors():
    x = mx.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(np.array(unit_vectors(x)), [[0.6, 0.8], [0, 0]], atol=1e-6)

"""The head: its size, what padding and modes must not change, and causality where it is asked for."""

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from toy_speech import WIDTH, settings

from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.head.ctc_head import CTCHead, TimeConvolution, downsampled_frames

LABELS = 30


def head(seed=1, **changes) -> CTCHead:
    mx.random.seed(seed)
    made = CTCHead(settings(**changes), WIDTH, LABELS)
    made.eval()
    mx.eval(made.parameters())
    return made


def speech(rows=3, length=37, seed=2) -> mx.array:
    return mx.random.normal((rows, length, WIDTH), key=mx.random.key(seed))


def scalars(rows=3, length=37, seed=3) -> mx.array:
    return mx.random.normal((rows, length, 7), key=mx.random.key(seed))


def test_the_published_head_has_46_9_million_parameters():
    made = CTCHead(AcousticSettings(features=["x"]), 1280, 64)
    count = sum(array.size for _, array in tree_flatten(made.trainable_parameters()))
    linear = 1280 * 768 + 768 + 768 * 64 + 64
    layer = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    assert count == linear + 6 * layer + 5 * 768 * 768 + 768 + 512 * 768 + 2 * 768 == 46_904_896


@pytest.mark.parametrize("downsample", [1, 2, 3, 4])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 4, 37])
def test_lengths(downsample, causal, length):
    made = head(downsample=downsample, causal=causal)
    out = downsampled_frames(length, downsample)
    logits = made(speech(2, length), mx.array([length, 1]), scalars(2, out))
    assert logits.shape == (2, out, LABELS) and out == -(-length // downsample)


@pytest.mark.parametrize(("stride", "causal"), [(1, False), (2, False), (2, True), (4, True)])
def test_the_convolution_equals_mlxs(stride, causal):
    made = TimeConvolution(6, 5, stride, causal)
    x = mx.random.normal((2, 24, 6), key=mx.random.key(0))
    before = 5 - stride if causal else 2
    padded = mx.pad(x, [(0, 0), (before, 5), (0, 0)])
    kernel = made.weight.reshape(5, 6, 6).transpose(2, 0, 1)
    wanted = mx.conv1d(padded, kernel, stride)[:, : downsampled_frames(24, stride)] + made.bias
    np.testing.assert_allclose(np.array(made(x)), np.array(wanted), atol=1e-5)


@pytest.mark.parametrize("mode", ["baseline", "trajectory+ttt"])
@pytest.mark.parametrize("downsample", [1, 2])
def test_padding_and_neighbours_change_nothing(mode, downsample):
    made = head(mode=mode, downsample=downsample)
    if made.adapter is not None:  # one that does something
        made.adapter.output.weight = mx.random.normal(made.adapter.output.weight.shape) * 0.1
        made.add_scalars = mx.random.normal(made.add_scalars.shape)
    x, given = speech(), scalars(3, downsampled_frames(37, downsample))
    x[1, 21:] = 50.0
    together = made(x, mx.array([37, 21, 30]), given)
    out = downsampled_frames(21, downsample)
    alone = made(x[1:2, :21], mx.array([21]), given[1:2, :out])
    np.testing.assert_allclose(np.array(together[1, :out]), np.array(alone[0]), atol=2e-4)


@pytest.mark.parametrize("conditioning", ["add", "attn-bias"])
def test_every_mode_starts_as_the_same_function(conditioning):
    x, lengths, given = speech(), mx.array([37, 20, 9]), scalars()
    plain = head()(x, lengths, given)
    for mode in ("trajectory", "tar", "cr", "ttt", "trajectory+tar+ttt"):
        made = head(mode=mode, conditioning=conditioning)(x, lengths, given)
        # attention with a bias is written in other operations
        tolerance = 2e-5 if conditioning == "attn-bias" and "trajectory" in mode else 0
        np.testing.assert_allclose(np.array(made), np.array(plain), atol=tolerance, rtol=0, err_msg=mode)


@pytest.mark.parametrize("conditioning", ["add", "attn-bias"])
def test_scalars_matter_once_their_weights_do(conditioning):
    made = head(mode="trajectory", conditioning=conditioning)
    name = "add_scalars" if conditioning == "add" else "bias_scalars"
    setattr(made, name, mx.random.normal(getattr(made, name).shape))
    one = made(speech(), mx.array([37] * 3), scalars())
    assert float(mx.abs(one - made(speech(), mx.array([37] * 3), scalars(seed=8))).max()) > 1e-3


@pytest.mark.parametrize("downsample", [1, 2, 4])
def test_a_causal_head_is_causal_to_the_last_bit(downsample):
    made = head(mode="trajectory+ttt", causal=True, downsample=downsample)
    made.adapter.output.weight = mx.random.normal(made.adapter.output.weight.shape) * 0.1
    out = downsampled_frames(37, downsample)
    x, at = speech(1), 20
    later = mx.array(np.array(x))
    later[:, at:] = later[:, at:] * -2 + 1
    one, two = (np.array(made(each, mx.array([37]), scalars(1, out)))[0] for each in (x, later))
    assert np.array_equal(one[: at // downsample], two[: at // downsample])
    assert not np.array_equal(one[at // downsample :], two[at // downsample :])
    other = head(downsample=downsample)
    one, two = (np.array(other(each, mx.array([37]), scalars(1, out)))[0] for each in (x, later))
    assert not np.array_equal(one[0], two[0]), "without --causal attention sees the whole utterance"

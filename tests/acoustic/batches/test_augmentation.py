"""Augmentation: what each change does to features, and that chance comes from its seeds alone."""

import numpy as np
from toy_speech import settings

from thunder.acoustic.batches.augmentation import Augmentation, stretch_time, warp_frequency


def features(length=30, width=8) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((length, width)).astype(np.float32)


def draw(seed=0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed]))


def test_stretching_is_linear_interpolation():
    x = features()
    found = stretch_time(x, 47)
    places = np.linspace(0, 29, 47)
    for bin in range(8):
        np.testing.assert_allclose(found[:, bin], np.interp(places, np.arange(30), x[:, bin]), atol=1e-6)
    np.testing.assert_array_equal(stretch_time(x, 30), x)


def test_warping_moves_bins_and_leaves_time():
    x = np.tile(np.arange(8, dtype=np.float32), (3, 1))
    np.testing.assert_allclose(warp_frequency(x, 0.5)[0], np.arange(8) * 0.5, atol=1e-6)
    np.testing.assert_allclose(warp_frequency(x, 2.0)[0], [0, 2, 4, 6, 7, 7, 7, 7], atol=1e-6)
    np.testing.assert_array_equal(warp_frequency(x, 1.0), x)


def test_masks_blank_stretches_of_at_most_their_share():
    made = Augmentation.from_settings(
        settings(time_masks=1, feature_masks=1, time_mask_share=0.2, feature_mask_share=0.5)
    )
    x, seen = features() + 10, set()
    for seed in range(40):
        gone = made.mask(x, draw(seed)) == 0
        frames, bins = int(gone.all(1).sum()), int(gone.all(0).sum())
        assert frames <= 6 and bins <= 4
        np.testing.assert_array_equal(gone, gone.all(1)[:, None] | gone.all(0)[None])
        seen |= {frames, -bins}
    assert {0, 6, -4} <= seen
    assert (x == features() + 10).all(), "the features themselves stay"
    np.testing.assert_array_equal(Augmentation.from_settings(settings()).mask(x, draw()), x)


def test_speed_never_leaves_too_few_frames_for_the_labels():
    made = Augmentation.from_settings(settings(speed=0.4))
    lengths = {len(made.stretch_and_warp(features(), draw(seed), min_frames=28)) for seed in range(60)}
    assert min(lengths) == 28 and max(lengths) > 40
    assert {len(made.stretch_and_warp(features(10), draw(seed), min_frames=28)) for seed in range(20)} >= {10}


def test_the_same_seeds_give_the_same_features():
    made = Augmentation.from_settings(settings(speed=0.2, warp=0.2, time_masks=2))
    one, two, other = (
        made.mask(made.stretch_and_warp(features(), seed, 1), seed) for seed in (draw(3), draw(3), draw(4))
    )
    np.testing.assert_array_equal(one, two)
    assert one.shape != other.shape or (one != other).any()


def test_consistency_has_masks_of_its_own():
    assert Augmentation.from_settings(settings(mode="cr")).time_masks == 2
    assert Augmentation.from_settings(settings(mode="cr", feature_masks=1)).time_masks == 0
    assert Augmentation.from_settings(settings()).time_masks == 0

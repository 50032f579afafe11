"""Batches of the head: augmentation, two views, and the shuffled control."""

import mlx.core as mx
import numpy as np
import toy_speech


def test_augmentation_is_drawn_anew_each_epoch_and_by_row_alone():
    made = toy_speech.task(speed=0.2, time_masks=1)
    one, again, later = made.batch([2, 5], 0), made.batch([2, 5], 0), made.batch([2, 5], 1)
    assert mx.array_equal(one.arrays[0], again.arrays[0])
    assert one.arrays[1].tolist() != later.arrays[1].tolist() or not mx.array_equal(one.arrays[0], later.arrays[0])
    alone = made.batch([5], 0)
    frames = alone.arrays[1].item()
    assert frames == one.arrays[1][1].item()
    assert mx.array_equal(alone.arrays[0][0, :frames], one.arrays[0][1, :frames])


def test_two_views_have_masks_of_their_own_and_one_time():
    made = toy_speech.task(mode="cr", speed=0.2, time_masks=2)
    x, frames = made.batch([1, 2], 0).arrays[:2]
    assert x.shape[0] == 4 and frames.shape[0] == 2
    assert not mx.array_equal(x[0], x[2])
    both = mx.logical_and(x[0] != 0, x[2] != 0)
    assert mx.array_equal(mx.where(both, x[0], 0), mx.where(both, x[2], 0))


def test_the_control_shuffles_the_scalars_of_each_utterance_in_one_way():
    plain, control = toy_speech.task(mode="trajectory"), toy_speech.task(mode="trajectory", control="shuffled")
    one, two = plain.batch([0], 0).arrays, control.batch([0], 0).arrays
    frames = one[1].item()
    assert not mx.array_equal(one[5], two[5])
    np.testing.assert_array_equal(np.sort(np.array(one[5][0, :frames]), 0), np.sort(np.array(two[5][0, :frames]), 0))
    assert mx.array_equal(one[4], two[4]), "what is measured stays in order"
    assert mx.array_equal(control.batch([0, 3], 1).arrays[5][0, :frames], two[5][0, :frames])

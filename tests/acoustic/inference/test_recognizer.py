"""The recognizer: its texts do not depend on the batch, its partitions not on the mode."""

import mlx.core as mx
import numpy as np
import pytest
import toy_speech
from recognized_rows import heard

from thunder.acoustic.inference.recognizer import Recognizer


@pytest.fixture(scope="module")
def toy():
    return heard("trajectory+ttt")


def test_what_is_heard_does_not_depend_on_the_batch(toy):
    _, one_by_one = heard("trajectory+ttt", batch_size=1)
    keys = ("asr_text", "cer_edits", "partition", "trajectory_scalars")
    assert [{key: row[key] for key in keys} for row in one_by_one] == [
        {key: row[key] for key in keys} for row in toy[1]
    ]


def test_partitions_are_the_same_for_every_mode(toy):
    _, other = heard("tar", seed=3)
    mine = {row["feat_id"]: (row["partition"], row["trajectory_scalars"]) for row in toy[1]}
    # the codebook depends on the seed, so the same seed is asked for
    _, same = heard("tar")
    assert mine == {row["feat_id"]: (row["partition"], row["trajectory_scalars"]) for row in same}
    assert len({row["partition"] for row in other}) > 1


def test_another_rate_of_the_fast_weights_can_be_asked_for(tmp_path):
    from thunder.acoustic.head import head_file

    made = toy_speech.task(mode="ttt")
    made.model.adapter.output.weight = mx.random.normal(made.model.adapter.output.weight.shape)
    made.save(tmp_path)
    arrays = made.batch([0], 0).arrays
    made.model.eval()
    still = Recognizer.from_head(head_file.load_head(tmp_path / head_file.HEAD_FILE), ttt_lr=0.0)
    still.model.eval()
    given = (arrays[0], arrays[1], arrays[5])
    with_them, without = made.model.forward_with_adapter(*given), still.model.forward_with_adapter(*given)
    assert float(without[1].drift[0]) == 0 and float(with_them[1].drift[0]) > 0
    made.model.adapter = None
    np.testing.assert_array_equal(np.array(made.model(*given)), np.array(without[0]))

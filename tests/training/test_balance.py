"""Rows by speed: when a split changes, what that gains with a slow rank, and that the result stays the same."""

from __future__ import annotations

import json
import shutil
import statistics
from types import SimpleNamespace

import numpy as np
import pytest
from ranked_training import largest_difference, trained

from thunder.lora.lora_settings import LoraSettings
from thunder.parallel.world import World
from thunder.training.balance import UPDATES_BETWEEN_LOOKS, Balance, better_split


@pytest.mark.parametrize(
    ("now", "measured", "rows", "wanted"),
    [
        ((), (10.0, 10.0), 12, ()),
        ((), (10.0, 11.0), 12, ()),  # too alike
        ((), (10.0, 5.0), 12, (10.0, 5.0)),
        ((), (10.0, 5.0), 2, ()),  # two rows cannot be split better
        ((10.0, 5.0), (10.0, 5.1), 12, (10.0, 5.0)),  # the same counts: not worth a change
        ((10.0, 5.0), (10.0, 10.0), 12, ()),  # no longer slow
        ((10.0, 5.0), (5.0, 10.0), 12, (5.0, 10.0)),
        ((10.0, 5.0), (0.0, 10.0), 12, (10.0, 5.0)),  # one had nothing to show
        ((), (3.0, 2.0, 1.0), 12, (3.0, 2.0, 1.0)),
    ],
)
def test_when_a_split_changes(now, measured, rows, wanted):
    assert better_split(now, measured, rows) == wanted


def test_even_measures_nothing_and_forgets_what_a_checkpoint_says():
    world = World(rank=1, size=2)  # without a ring: any collective would fail
    balance = Balance(world, LoraSettings(balance="even"), (1.0, 2.0))
    assert list(balance.rows_of_this_rank(range(5))) == [1, 3]
    balance.note_micro_batch(1, 0.5)
    state = SimpleNamespace(step=UPDATES_BETWEEN_LOOKS, speeds=[1.0, 2.0])
    balance.update_split(state, None)  # type: ignore[arg-type]
    assert state.speeds == []
    auto = LoraSettings(balance="auto")
    assert list(Balance(world, auto, (1.0, 2.0)).rows_of_this_rank(range(6))) == [2, 3, 4, 5]
    assert list(Balance(world, auto, (1.0, 2.0, 3.0)).rows_of_this_rank(range(6))) == [1, 3, 5], (
        "speeds of three ranks, and two here"
    )
    assert list(Balance(World(), auto, (1.0,)).rows_of_this_rank(range(3))) == [0, 1, 2]


HALF_SPEED = "slow@computing:rank=0:ms=400, slow@computing:rank=1:ms=800"
# two padded lengths in all, which every rank has compiled by the time that is measured
OPTIONS = {"batch_size": 3, "iters": 12, "save_every": 8, "steps_per_eval": 100, "max_seq_length": 64}
FEW = 40  # tokens: an epoch's last step has fewer rows


def step_seconds(folder):
    """Step -> seconds, of the steps with all six rows."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "tokens_per_second" in line]
    tokens = np.diff([0, *(line["tokens"] for line in steps)])
    return {
        line["step"]: count / line["tokens_per_second"]
        for count, line in zip(tokens, steps, strict=True)
        if count > FEW
    }


@pytest.mark.slow
def test_a_rank_at_half_its_speed_holds_the_other_up_less(run_ranks, tmp_path):
    """One rank sleeps twice as long for each row: six rows as 4 and 2 in place of 3 and 3. Then it is resumed."""
    how = {"micro_batch_size": 1, "fault": HALF_SPEED}
    even = trained(run_ranks, tmp_path, 2, "even", how=how, balance="even", **OPTIONS)
    auto = trained(run_ranks, tmp_path, 2, "auto", how=how, balance="auto", **OPTIONS)
    slow, fast = step_seconds(tmp_path / "even"), step_seconds(tmp_path / "auto")
    gain = statistics.median(slow[step] / fast[step] for step in slow if step > UPDATES_BETWEEN_LOOKS)
    print(f"balanced throughput is {gain:.2f} x the even split's")
    assert gain >= 1.25
    np.testing.assert_allclose(auto[0], even[0], rtol=1e-5)
    assert largest_difference(auto[2], even[2]) < 1e-5
    saved = "checkpoints/step-0000008/trainer_state.json"
    speeds = json.loads((tmp_path / "auto" / saved).read_text())["speeds"]
    assert len(speeds) == 2 and 1.3 < speeds[0] / speeds[1] < 2.5
    assert json.loads((tmp_path / "even" / saved).read_text())["speeds"] == []

    shutil.rmtree(tmp_path / "auto" / "checkpoints" / "step-0000012")
    (tmp_path / "auto" / "metrics.jsonl").unlink()
    resumed = trained(run_ranks, tmp_path, 2, "auto", how=how, balance="auto", **OPTIONS)
    np.testing.assert_allclose(resumed[0], even[0][8:], rtol=1e-5)
    assert largest_difference(resumed[2], even[2]) < 1e-5
    again = json.loads((tmp_path / "auto" / "checkpoints" / "step-0000008" / "trainer_state.json").read_text())
    assert again["speeds"] == speeds

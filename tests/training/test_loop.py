"""The same run on any number of ranks, resumed or not: equal losses and weights, and byte-identical files."""

from __future__ import annotations

import shutil

import mlx.core as mx
import numpy as np
import pytest
from conftest import rank_runner
from ranked_training import largest_difference, run_training, trained

pytestmark = pytest.mark.expensive


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """Gives `trained` for runs that several tests compare with: its folder, and what it returns."""
    folder, done = tmp_path_factory.mktemp("trained"), {}
    with rank_runner(folder) as run:

        def train(ranks, **changes):
            name = "-".join(map(str, (ranks, *(part for item in sorted(changes.items()) for part in item))))
            if name not in done:
                done[name] = trained(run, folder, ranks, name, **changes)
            return folder / name, done[name]

        yield train


def test_one_rank_of_two_rows_equals_two_ranks_of_one_row(trained_once):
    # 19 training rows: the last step of an epoch has one row, and one of the two ranks none
    _, one = trained_once(1, batch_size=2)
    _, two = trained_once(2, batch_size=1)
    assert len(one[0]) == 12
    np.testing.assert_allclose(one[0], two[0], rtol=1e-5)
    np.testing.assert_allclose(one[1], two[1], rtol=1e-5)
    assert largest_difference(one[2], two[2]) < 1e-5
    assert one[1][-1] < one[1][0], "it must have learnt something for the comparison to mean anything"
    assert max(float(np.abs(array).max()) for key, array in one[2].items() if "lora_b" in key) > 1e-3


def test_three_ranks_with_uneven_rows_equal_one(run_ranks, tmp_path):
    one = trained(run_ranks, tmp_path, 1, "one", batch_size=3)
    three = trained(run_ranks, tmp_path, 3, "three", batch_size=1)
    np.testing.assert_allclose(one[0], three[0], rtol=1e-5)
    assert largest_difference(one[2], three[2]) < 1e-5


def test_accumulation_equals_a_larger_batch(run_ranks, tmp_path):
    plain = trained(run_ranks, tmp_path, 1, "plain", batch_size=4)
    accumulated = trained(
        run_ranks, tmp_path, 1, "accumulated", batch_size=1, grad_accumulation_steps=4,
        iters=48, steps_per_report=4, steps_per_eval=20, save_every=24,
    )  # fmt: skip
    np.testing.assert_allclose(plain[0], accumulated[0], rtol=1e-5)
    assert largest_difference(plain[2], accumulated[2]) < 1e-5


@pytest.mark.slow
def test_one_rank_carries_on_what_two_were_planned_for(run_ranks, tmp_path):
    """Fewer ranks, smaller pieces, recomputed activations: circumstances, which change nothing but rounding."""
    two = trained(run_ranks, tmp_path, 2, "two", batch_size=2)
    for name, ranks, how in (
        ("alone", 1, {"planned_ranks": 2}),
        ("pieces", 1, {"planned_ranks": 2, "micro_batch_size": 1, "grad_checkpoint": True}),
        ("halved", 2, {"micro_batch_size": 1}),
    ):
        other = trained(run_ranks, tmp_path, ranks, name, how=how, batch_size=2)
        np.testing.assert_allclose(two[0], other[0], rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(two[1], other[1], rtol=1e-5, err_msg=name)
        assert largest_difference(two[2], other[2]) < 1e-5, name
    unplanned = trained(run_ranks, tmp_path, 1, "unplanned", batch_size=2)
    assert largest_difference(two[2], unplanned[2]) > 1e-4, "the comparison must be able to fail"


def test_a_run_of_two_goes_on_alone(run_ranks, trained_once, tmp_path):
    """From the checkpoint of step 6 of two ranks, one rank goes on with the same global batch."""
    folder, two = trained_once(2, batch_size=1)
    shutil.copytree(folder, tmp_path / "two")
    shutil.rmtree(tmp_path / "two" / "checkpoints" / "step-0000012")
    (tmp_path / "two" / "metrics.jsonl").unlink()
    results = run_training(run_ranks, tmp_path, 1, "two", batch_size=1)
    assert results[0][0] == 1 and "planned ranks: 2 -> 1" in results[0][1], "a smaller batch is not taken unasked"
    alone = trained(run_ranks, tmp_path, 1, "two", how={"planned_ranks": 2}, batch_size=1)
    np.testing.assert_allclose(two[0][6:], alone[0], rtol=1e-5)
    assert largest_difference(two[2], alone[2]) < 1e-5


def test_two_runs_are_byte_identical(run_ranks, trained_once, tmp_path):
    _, first = trained_once(2, batch_size=1, lora_dropout=0.1)
    second = trained(run_ranks, tmp_path, 2, "second", batch_size=1, lora_dropout=0.1)
    assert first[3] == second[3]
    assert first[0] == second[0]
    other = trained(run_ranks, tmp_path, 2, "other", batch_size=1, lora_dropout=0.1, seed=6)
    assert first[3] != other[3]


def test_all_ranks_end_with_the_same_weights(trained_once):
    folder, (*_, main) = trained_once(2, batch_size=1)
    other = mx.load(str(folder.parent / f"{folder.name}-rank1.safetensors"))
    mine = mx.load(str(folder / "adapters" / "adapters.safetensors"))
    assert main
    assert all(mx.array_equal(mine[key], other[key]).item() for key in mine)


def test_a_resumed_run_is_byte_identical(run_ranks, trained_once, tmp_path):
    """Stopping after step 6 and starting again leaves the very bytes of a run that never stopped."""
    folder, whole = trained_once(2, batch_size=1, lora_dropout=0.1)
    halfway = tmp_path / "halfway"
    shutil.copytree(folder, halfway)
    shutil.rmtree(halfway / "adapters")
    shutil.rmtree(halfway / "checkpoints" / "step-0000012")
    (halfway / "metrics.jsonl").unlink()
    resumed = trained(run_ranks, tmp_path, 2, "halfway", batch_size=1, lora_dropout=0.1)
    assert len(resumed[0]) == 6
    assert resumed[0] == whole[0][6:]
    assert resumed[3] == whole[3]


def test_gradient_checkpointing_changes_nothing(run_ranks, trained_once, tmp_path):
    _, plain = trained_once(1, batch_size=2)
    checkpointed = trained(run_ranks, tmp_path, 1, "checkpointed", batch_size=2, grad_checkpoint=True)
    np.testing.assert_allclose(plain[0], checkpointed[0], rtol=1e-5)
    assert largest_difference(plain[2], checkpointed[2]) < 1e-5

"""Acoustic training over real ranks: two equal one, a resumed run has the same bytes, and the artifacts are whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from conftest import REPOSITORY

pytestmark = pytest.mark.expensive

TRAIN = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import toy_speech
from thunder.acoustic.dataset import utterances
from thunder.acoustic.training import ctc_run
from thunder.acoustic.training.ctc_task import AcousticTask
from thunder.parallel import world
from thunder.runs.records.run_record import RunRecord
from thunder.training.loop import train_loop
from thunder.training.train_context import TrainContext

out, options = Path(sys.argv[2]), json.loads(sys.argv[3])
ring = world.join_world()
record = RunRecord(out, ring.is_main)
record.log = lambda text: print(text, flush=True)
settings = toy_speech.settings(**options)
features = utterances.FeatureSet((toy_speech.MemoryStore(toy_speech.rows(24)),))
dataset = utterances.prepare_dataset(settings, features)
task = AcousticTask(settings, dataset, ctc_run.broadcast_statistics(settings, dataset, ring))
ctc_run.write_run_header(task, record)
state = train_loop(TrainContext(task, settings, ring, record, {"data": dataset.digest()}))
record.finish({"steps": state.step} | ctc_run.test_best_checkpoint(task, record, ring))
"""
OPTIONS = {"steps_per_report": 1, "steps_per_eval": 4, "save_every": 6, "learning_rate": 3e-4, "mode": "trajectory+tar"}


def trained(run_ranks, tmp_path: Path, ranks: int, name: str, **changes):
    """(losses, folder) of a run to its end."""
    here, options = str(REPOSITORY / "tests" / "support"), json.dumps(OPTIONS | changes)
    results = run_ranks(ranks, TRAIN, here, str(tmp_path / name), options)
    assert [code for code, _ in results] == [0] * ranks, results
    metrics = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in metrics if "loss" in row], tmp_path / name


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.array(array) for name, array in mx.load(str(folder / "model" / "head.safetensors")).items()}


def test_two_ranks_equal_one(run_ranks, tmp_path):
    one, folder = trained(run_ranks, tmp_path, 1, "one", batch_size=4, speed=0.1, time_masks=1)
    two, other = trained(run_ranks, tmp_path, 2, "two", batch_size=2, speed=0.1, time_masks=1)
    assert len(one) == 12
    np.testing.assert_allclose(one, two, rtol=1e-5)
    mine, theirs = weights_of(folder), weights_of(other)
    assert max(float(np.abs(mine[name] - theirs[name]).max()) for name in mine) < 1e-5
    assert one[-1] < 0.9 * one[0], "it must have learnt something for the comparison to mean anything"
    rows = [(each / "test_predictions.jsonl").read_text().replace(each.name, "") for each in (folder, other)]
    assert [json.loads(line)["feat_id"] for line in rows[0].splitlines()] == ["u1", "u13", "u17", "u21", "u5", "u9"]
    heard = [[json.loads(line)["asr_text"] for line in text.splitlines()] for text in rows]
    assert heard[0] == heard[1]


@pytest.mark.parametrize("mode", ["trajectory+tar", "cr+ttt"])
def test_a_resumed_run_is_byte_identical(run_ranks, tmp_path, mode):
    options = {"mode": mode, "dropout": 0.1, "speed": 0.1}
    whole, folder = trained(run_ranks, tmp_path, 1, "whole", **options)
    halfway = tmp_path / "halfway"
    shutil.copytree(folder, halfway)
    for gone in ("model", "checkpoints/step-0000012"):
        shutil.rmtree(halfway / gone)
    for gone in ("metrics.jsonl", "results.json", "best.safetensors", "test_predictions.jsonl"):
        (halfway / gone).unlink()
    resumed, _ = trained(run_ranks, tmp_path, 1, "halfway", **options)
    assert resumed == whole[6:]
    for name in ("model/head.safetensors", "best.safetensors", "split.json", "vocab.json", "test_references.jsonl"):
        assert (halfway / name).read_bytes() == (folder / name).read_bytes(), name
    for name in ("weights.safetensors", "optimizer_state.safetensors"):
        last = Path("checkpoints") / "step-0000012" / name
        assert (halfway / last).read_bytes() == (folder / last).read_bytes(), name
    mine, theirs = (
        (each / "test_predictions.jsonl").read_text().replace(f'"run_id": "{each.name}"', "")
        for each in (halfway, folder)
    )
    assert mine == theirs

"""`thunder asr train` as a user types it, over features on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from toy_asr_runs import COMMON, thunder, written

from thunder.cli import main as cli

pytestmark = pytest.mark.expensive


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(runs, run folder, features) of a short run in a mode with everything on."""
    runs, features = tmp_path_factory.mktemp("runs"), written(tmp_path_factory.mktemp("features") / "toy")
    words = ["train", "--features", str(features), *COMMON, "--iters", "10", "--mode", "trajectory+tar+ttt"]
    done = thunder(runs, "asr", *words)
    assert done.returncode == 0, done.stderr
    assert "test CER" in done.stdout and "fast weights moved by" in done.stdout
    return runs, (runs / "latest").resolve(), features


def test_a_run_leaves_every_artifact(finished):
    _, folder, _ = finished
    assert folder.name.split("-", 2)[2].startswith("asr-latin-trajectory+tar+ttt-")
    wanted = "results.json train.log run.log split.json vocab.json best.safetensors test_predictions.jsonl "
    wanted += "test_references.jsonl test_metrics_by_partition.json config.yaml environment.json"
    assert [name for name in wanted.split() if not (folder / name).is_file()] == []
    results = json.loads((folder / "results.json").read_text())
    metrics = json.loads((folder / "test_metrics_by_partition.json").read_text())
    assert results["test"]["cer"] == metrics["total"]["cer"] and results["test"]["rows"] == 6
    assert results["test"]["ttt"]["drift_mean"] > 0
    split = json.loads((folder / "split.json").read_text())
    predictions = [json.loads(line) for line in (folder / "test_predictions.jsonl").read_text().splitlines()]
    assert [row["feat_id"] for row in predictions] == split["ids"]["test"]
    assert "step 10" in (folder / "run.log").read_text()


def test_what_a_user_gets_wrong(finished, capsys, tmp_path, monkeypatch):
    runs, folder, features = finished
    monkeypatch.setenv("THUNDER_RUNS", str(runs))

    def refused(*words: object, code: int) -> str:
        assert cli.main(["asr", *map(str, words)]) == code
        return capsys.readouterr().err

    other = written(tmp_path / "other", 8)
    assert "'ttx' is no mode" in refused("train", "--features", features, "--mode", "ttx", code=2)
    assert "--test-speakers lucas" in refused(
        "train", "--features", features, "--script", "latin", "--test-speakers", "lucas", code=2
    )
    assert "no such checkpoint" in refused("eval", "--run", tmp_path / "x.safetensors", code=2)
    assert "there is no run 'nowhere'" in refused("eval", "--run", "nowhere", code=2)
    torn = next(other.glob("*.safetensors"))
    torn.write_bytes(torn.read_bytes()[:-8])
    assert "torn" in refused("eval", "--run", folder, "--features", other, code=4)
    assert "torn" in refused("train", "--features", other, "--script", "latin", code=4)


def test_the_plan_says_what_will_be_done_and_needs_no_mlx(finished):
    runs, _, features = finished
    words = ["train", "--features", str(features), *COMMON, "--dry-run", "--json", "--mode", "trajectory", "--use-ttt"]
    done = thunder(runs, "asr", *words)
    plan = json.loads(done.stdout)
    assert plan["acoustic"]["mode"] == "trajectory+ttt" and plan["acoustic"]["test_rows"] == 6
    assert plan["data"]["train"]["rows"] == 12 and plan["settings"]["features"] == [str(features)]
    program = (
        f"import sys; from thunder.cli import main; main.main({['asr', *words]!r}); assert 'mlx' not in sys.modules"
    )
    environ = os.environ
    checked = subprocess.run(
        [sys.executable, "-P", "-c", program], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_a_finished_run_goes_on_as_nothing(finished):
    """`thunder resume` knows the job: a run at its end is tested again, with the same results."""
    runs, folder, _ = finished
    before = (folder / "best.safetensors").read_bytes(), json.loads((folder / "results.json").read_text())["test"]
    done = thunder(runs, "resume", folder.name)
    assert done.returncode == 0, done.stderr
    assert before == (
        (folder / "best.safetensors").read_bytes(), json.loads((folder / "results.json").read_text())["test"]
    )  # fmt: skip

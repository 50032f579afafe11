"""`thunder asr train` and `thunder asr eval` as a user types them, over features on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy_speech
from conftest import REPOSITORY

from thunder.cli import main as cli

pytestmark = pytest.mark.expensive

COMMON = (
    "--script latin --head small --test-speakers s1 --valid-speakers s2 --dropout 0.05 --codebook 16 --batch-size 6 "
    "--learning-rate 3e-3 --steps-per-eval 5 --steps-per-report 1 --save-every 5 --ttt-chunk-size 4 --ranks 1"
).split()


def written(folder: Path, count: int = 24) -> Path:
    """A feature folder of toy speech."""
    from thunder.acoustic.features.recipe import Recipe
    from thunder.acoustic.features.store_index import Utterance
    from thunder.acoustic.features.store_writer import StoreWriter

    with StoreWriter(folder, Recipe(kind="logmel"), toy_speech.WIDTH) as writer:
        for said, features in toy_speech.rows(count):
            values = (said.id, said.frames, said.seconds, said.text, said.speaker, said.split, said.audio_sha256)
            writer.add(Utterance(*values), features)
        writer.finish()
    return folder


def thunder(runs: Path, *words: str, timeout: float = 100) -> subprocess.CompletedProcess:
    environ = os.environ | {"THUNDER_RUNS": str(runs), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "thunder", *words]
    return subprocess.run(
        command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, timeout=timeout, check=False
    )


def said_by(capsys, *words: object) -> dict:
    capsys.readouterr()
    assert cli.main(["asr", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


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


def test_eval_gives_the_runs_own_numbers_again(finished, capsys, tmp_path, monkeypatch):
    runs, folder, features = finished
    monkeypatch.setenv("THUNDER_RUNS", str(runs))
    results = json.loads((folder / "results.json").read_text())
    # a process of its own, as the run was: another number of BLAS threads rounds otherwise
    done = thunder(runs, "asr", "eval", "--run", "latest", "--out", str(tmp_path / "again"), "--json")
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert {key: again[key] for key in results["test"]} == results["test"]
    mine, theirs = ((each / "test_predictions.jsonl").read_text() for each in (tmp_path / "again", folder))
    assert mine == theirs
    low, high = again["cer_interval"]
    assert low <= again["cer"] <= high
    everything = said_by(capsys, "eval", "--run", folder / "best.safetensors", "--features", features)
    assert everything["rows"] == 24 and everything["part"] == "all"
    assert said_by(capsys, "eval", "--run", folder, "--part", "valid")["rows"] == 6
    assert said_by(capsys, "eval", "--run", folder, "--ttt-lr", 0)["ttt"]["drift_mean"] == 0
    aligned = said_by(capsys, "eval", "--run", folder, "--align-with", folder)
    assert aligned["by_partition"]["characters"] == again["by_partition"]["characters"]
    assert cli.main(["asr", "eval", "--run", str(folder), "--decoder", "beam", "--beam", "4"]) == 0
    assert "CER" in capsys.readouterr().out


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

"""`thunder asr eval` as a user types it: it gives the numbers of the run again."""

from __future__ import annotations

import json

import pytest
from toy_asr_runs import COMMON, thunder, written

from thunder.cli import main as cli

pytestmark = pytest.mark.expensive


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

"""`thunder train --dry-run`: the plan of the flags, and nothing is written."""

from __future__ import annotations

import json

import pytest

from thunder.cli.main import main


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_a_plan_has_the_options_of_flags_and_file_and_writes_nothing(runs, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("iters: 7\nlora_rank: 4\nseed: 3\n")
    words = ["train", "-c", str(tmp_path / "c.yaml"), "--iters", "9", "--ranks", "1", "--dry-run", "--json"]
    assert main(words) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["job"] == "train" and plan["length"]["iterations"] == 9
    assert {name: plan["settings"][name] for name in ("iters", "lora_rank", "seed")} == {
        "iters": 9, "lora_rank": 4, "seed": 3,
    }  # fmt: skip
    assert not runs.exists() or not any(path.is_dir() for path in runs.iterdir())


def test_an_option_out_of_range_is_a_mistake_of_use(capsys):
    assert main(["train", "--iters", "-1", "--dry-run"]) == 2
    assert "iters" in capsys.readouterr().err

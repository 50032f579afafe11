"""`thunder resume`: the plan is that of the run; a run that is not there is refused with those that are."""

from __future__ import annotations

import json
import shutil

import pytest
from version_artifacts import ARTIFACTS

from thunder.cli.main import main


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A corrector of version 0.1.0 that was interrupted."""
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    name = "corrector-interrupted"
    return shutil.copytree(ARTIFACTS / "runs" / name, tmp_path / "runs" / name)


def test_a_plan_continues_the_run_with_its_own_options_and_changes_nothing(run, capsys):
    stored = json.loads((run / "plan.json").read_text(encoding="utf-8"))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["resume", run.name, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    for name in ("iters", "seed", "batch_size", "learning_rate", "lora_rank"):
        assert plan["settings"][name] == stored["settings"][name]
    assert plan["job"] == "train" and plan["run"] == run.name
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_run_that_is_not_there_is_refused(run, capsys):
    assert main(["resume", "nowhere", "--dry-run"]) == 2
    assert f"there is no run 'nowhere' in {run.parent} (newest: {run.name})" in capsys.readouterr().err

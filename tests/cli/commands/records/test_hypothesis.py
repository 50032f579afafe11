"""`thunder hypothesis`: the digest is frozen once, and runs that nobody names are asked for."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import REPOSITORY
from planted_runs import read_jsonl, sha256_of_value

from thunder.cli.main import main


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The published hypothesis, not frozen, away from its runs."""
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    return shutil.copy(REPOSITORY / "tests" / "fixtures" / "lr_budget.json", tmp_path / "h.json")


def test_freezing_prints_the_digest_and_logs_it_once(file, capsys):
    sha256 = sha256_of_value(json.loads(file.read_text()))
    assert main(["hypothesis", "freeze", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(file), "sha256": sha256}
    assert main(["hypothesis", "freeze", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: frozen, sha256 {sha256}\n"
    (line,) = read_jsonl(file.with_name("h.json.frozen.jsonl"))
    assert line["sha256"] == sha256 and line["time"] > 0


@pytest.mark.parametrize("which", ["treated", "control"])
def test_a_run_that_the_file_does_not_name_is_asked_for(file, capsys, which):
    content = json.loads(file.read_text())
    other = {"treated": "control", "control": "treated"}[which]
    fixtures = REPOSITORY / "tests" / "fixtures"
    content[f"{other}_run"] = str(fixtures / content.pop(f"{other}_run"))
    del content[f"{which}_run"]
    file.write_text(json.dumps(content))
    assert main(["hypothesis", "eval", str(file)]) == 2
    error = capsys.readouterr().err
    assert f"names no {which} run" in error and f"--{which} RUN" in error

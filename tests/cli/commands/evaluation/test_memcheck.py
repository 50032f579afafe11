"""`thunder memcheck`: the table, its JSON with the exit code, and a sealed run that stays as it is."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import REPOSITORY

from thunder.cli.commands.evaluation import memcheck as command
from thunder.cli.main import main
from thunder.evaluation.claims.training_table import TrainingRow, TrainingTable, read_training_table

FIXTURES = REPOSITORY / "tests" / "fixtures"


@pytest.fixture
def leak(tmp_path, monkeypatch):
    """A copy of a run with a leak."""
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    return shutil.copytree(FIXTURES / "leak", tmp_path / "leak")


def test_the_json_is_what_is_written_and_has_the_exit_code_of_the_lines(leak, capsys):
    assert main(["memcheck", str(leak), "--json"]) == 3
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((leak / "memcheck.json").read_text())
    assert (printed["verdict"], printed["run"]) == ("leak_suspected", "leak")
    assert main(["memcheck", str(leak)]) == 3


def test_a_sealed_run_gets_no_file(leak, monkeypatch, capsys):
    monkeypatch.setattr(command.bundle, "manifest_digest", lambda folder: "a" * 64)
    (leak / "memcheck.json").unlink(missing_ok=True)
    assert main(["memcheck", str(leak)]) == 3
    assert "verdict: leak_suspected\n" in capsys.readouterr().out and not (leak / "memcheck.json").exists()


@pytest.mark.parametrize("flag", ["--train", "--val"])
def test_rows_of_one_part_alone_are_refused(leak, capsys, flag):
    assert main(["memcheck", str(leak), flag, "rows.jsonl"]) == 2
    assert "--train and --val belong together" in capsys.readouterr().err


def test_the_table_has_the_last_rows_aligned_and_a_dash_for_what_is_not_logged(leak):
    table = read_training_table(leak)
    rows = [TrainingRow(epoch=number, step=10 * number, val=1 / (number + 1)) for number in range(43)]
    lines = command.format_table(TrainingTable(**(vars(table) | {"rows": rows}))).splitlines()
    assert lines[0] == "3 earlier rows are left out" and len(lines) == 1 + 1 + 40
    assert lines[1].split() == list(command.COLUMNS)
    assert lines[2].split() == ["3", "30", "-", "-", "-", "0.25", "-", "-", "-", "-"]
    assert len({len(line) for line in lines[1:]}) == 1

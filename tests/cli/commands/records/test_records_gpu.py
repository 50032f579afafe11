"""`thunder gpu`: the plan and the list of rentals ask no service; a run that the matrix lacks is refused."""

from __future__ import annotations

import json

import pytest

from thunder.cli.commands.records import gpu
from thunder.cli.main import main
from thunder.runs.matrix import matrix_spec

MATRIX = {
    "id": "small", "snapshot": {"name": "s", "rows": 10, "split": {"train": 8, "val": 1, "test": 1}},
    "runs": [{"id": "plain", "script": "nko", "mode": "baseline", "hours": 7.5},
             {"id": "traj", "script": "nko", "mode": "trajectory"}],
    "budget": {"usd": 5}, "estimate": {"hours": 2},
}  # fmt: skip


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A matrix; no service may be asked."""
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("VAST_API_KEY", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    (tmp_path / "m.json").write_text(json.dumps(MATRIX))
    return tmp_path / "m.json"


def test_the_plan_has_the_hours_of_each_run_and_the_cap(file, capsys):
    assert main(["gpu", "plan", str(file), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["runs"] == [{"run": "small.plain", "hours": 7.5}, {"run": "small.traj", "hours": 2}]
    assert (plan["cap_usd"], plan["spent_usd"]) == (5, 0)
    assert main(["gpu", "plan", str(file), "--hours", "3", "--cap", "9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:2]] == [["small.plain", "3", "h"], ["small.traj", "3", "h"]]
    assert lines[-1] == "spent 0.00 USD, cap 9.00 USD"


def test_nothing_rented_is_an_empty_list(file, capsys):
    assert main(["gpu", "watch"]) == 0
    assert capsys.readouterr().out == "0 rented, 0.00 USD spent in total\n"


def test_a_run_that_the_matrix_lacks_is_refused_with_those_it_has(file, capsys):
    assert main(["gpu", "launch", str(file), "--only", "ttt", "--yes"]) == 2
    error = capsys.readouterr().err
    assert "--only ttt: not a run of the matrix" in error and "plain, traj" in error


def test_an_order_without_hours_or_a_cap_is_refused(file, capsys):
    file.write_text(json.dumps({key: value for key, value in MATRIX.items() if key != "budget"}))
    assert main(["gpu", "launch", str(file), "--only", "traj", "--yes"]) == 2
    assert "--hours H --cap USD" in capsys.readouterr().err


def test_what_holds_a_rental_back_is_named(file):
    plan = matrix_spec.read_matrix(file)
    cell = matrix_spec.matrix_cells(plan)[0]
    gates = gpu._gates(file, plan, cell)
    assert gates["rehearsal"] == f"no rehearsal of plain left predictions: thunder matrix run {file}"

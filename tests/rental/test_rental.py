"""The commands of rented machines, against a program on PATH that replays offers, machines and faults."""

from __future__ import annotations

import json
import os
import sys

import pytest
from conftest import REPOSITORY
from fakes.fake_vast import FakeVast

from thunder.cli.main import main

FAKES = REPOSITORY / "tests" / "support" / "fakes"
KEY = "secret-0123456789abcdef"


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The fake as a program on PATH."""
    (tmp_path / "vast").mkdir()
    monkeypatch.setenv("PATH", f"{FAKES}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.setenv("FAKE_VAST", str(tmp_path / "vast"))
    monkeypatch.setenv("VAST_API_KEY", KEY)
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    return FakeVast(tmp_path / "vast")


MATRIX = {
    "id": "small", "snapshot": {"name": "s", "rows": 10, "split": {"train": 8, "val": 1, "test": 1}},
    "runs": [{"id": "traj", "script": "nko", "mode": "trajectory"}], "budget": {"usd": 5}, "estimate": {"hours": 2},
}  # fmt: skip


def test_commands(program, tmp_path, monkeypatch, capsys):
    file = tmp_path / "m.json"
    file.write_text(json.dumps(MATRIX | {"snapshot": MATRIX["snapshot"] | {"rows": 11}}))
    assert main(["gpu", "launch", str(file), "--only", "traj", "--yes"]) == 3
    said = capsys.readouterr().err
    assert "not its 11 rows" in said and "no rehearsal of traj left predictions" in said
    file.write_text(json.dumps(MATRIX))
    assert main(["vast", "launch", str(file), "--only", "traj", "--yes"]) == 3, "not rehearsed"
    assert not (tmp_path / "vast/state.json").exists(), "the service was not even asked"
    assert main(["gpu", "plan", str(file)]) == 0
    assert "small.traj" in capsys.readouterr().out
    assert main(["gpu", "search", "--json"]) == 0
    assert [offer["id"] for offer in json.loads(capsys.readouterr().out)] == [73, 72, 71]
    assert main(["gpu", "watch"]) == 0 and "0 rented" in capsys.readouterr().out
    assert main(["gpu", "destroy", "nothing"]) == 2
    state = json.loads((tmp_path / "vast/state.json").read_text())
    state["faults"] = [{"command": "search offers", "how": "error", "times": 99}]
    (tmp_path / "vast/state.json").write_text(json.dumps(state))
    capsys.readouterr()
    assert main(["gpu", "search"]) == 6
    said = capsys.readouterr().err
    assert "502" in said and KEY not in said and "(key)" in said
    monkeypatch.delenv("VAST_API_KEY")
    assert main(["gpu", "search"]) == 2


def test_the_rehearsed_run_is_only_named_without_yes(program, tmp_path, capsys):
    from thunder.runs.matrix import matrix_spec

    file = tmp_path / "m.json"
    file.write_text(json.dumps(MATRIX))
    (cell,) = matrix_spec.matrix_cells(matrix_spec.read_matrix(file))
    note = tmp_path / "runs/matrix-small/rehearsals" / f"{cell.condition[:16]}.json"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"condition": cell.condition}))
    assert main(["gpu", "launch", str(file), "--only", "traj"]) == 0
    said = capsys.readouterr().out
    assert (
        "offer 72, A100 PCIE, 0.600 USD/h, at most 1.20 USD" in said and "nothing was rented: add --yes to rent" in said
    )
    assert "create instance" not in json.loads((tmp_path / "vast/state.json").read_text())["calls"]
    assert main(["gpu", "launch", str(file), "--only", "traj", "--cap", "1"]) == 3
    assert main(["gpu", "launch", str(file), "--only", "other"]) == 2

"""States of the runs of a matrix: they follow from the files in its folder alone."""

from __future__ import annotations

import fcntl
import json

import planted_runs
import pytest
from planted_matrix import FINE, how, little

from thunder.errors import ArtifactError, GateError
from thunder.runs.matrix import matrix_driver, matrix_spec, matrix_status
from thunder.runs.matrix.matrix_status import MatrixLedger


def test_a_matrix_that_changed_after_its_runs_is_refused(tmp_path):
    matrix_driver.run_matrix(MatrixLedger(tmp_path, little()), how(tmp_path, rehearse=False, only=["plain-s1"]))
    other = little(regime=FINE["regime"] | {"learning_rate": 1.0})
    with pytest.raises(GateError, match="plain-s1 was started with other options"):
        MatrixLedger(tmp_path, other).states()


def test_states_follow_from_the_files_of_the_folder(tmp_path):
    ledger = MatrixLedger(tmp_path, little())
    plain, second, traj, last = matrix_spec.matrix_cells(ledger.plan)
    for cell in (second, last):
        path = ledger.path(cell, "json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"options_sha256": cell.sha256, "place": "host1"}))
    ledger.path(second, "out").write_text("error: out of memory\n")
    planted_runs.recognizer_run(tmp_path, ledger.run_folder(traj).name)
    states = {state.cell.id: state for state in ledger.states()}
    assert [state.state for state in states.values()] == ["waiting", "failed", "done", "failed"]
    assert (states[second.id].why, states[second.id].place) == ("out of memory", "host1")
    assert (states[last.id].why, states[plain.id].place) == (None, None)
    recorded = json.loads((ledger.run_folder(traj) / "results.json").read_text())["test"]["cer"]
    assert states[traj.id].cer == matrix_status.cell_cer(ledger.run_folder(traj)) == recorded
    ledger.path(second, "json").write_text("{")
    with pytest.raises(ArtifactError, match="not JSON"):
        ledger.state(second)


def test_a_lock_is_held_until_its_process_lets_go(tmp_path):
    path = tmp_path / "a.lock"
    assert not matrix_status.is_held(path)
    with path.open("wb") as stream:
        assert not matrix_status.is_held(path)
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert matrix_status.is_held(path)
    assert not matrix_status.is_held(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step 1\nerror: no such file\n  to fix: give a path\n", "no such file"),
        ('step 1\n{"error": "no such file\\n  a", "exit_code": 2}\n', "no such file"),
        ('{"step": 1}\nKilled\n\n', "Killed"),
        ("\n", None),
    ],
)
def test_the_last_message_of_a_command(tmp_path, text, message):
    (tmp_path / "a.out").write_text(text)
    assert matrix_status.last_words(tmp_path / "a.out") == message
    assert matrix_status.last_words(tmp_path / "none.out") is None

"""The driver of a matrix: runs are placed on hosts, and drivers and runs that are killed are resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from planted_matrix import SEARCHED, calls, fine, how, little

from thunder.errors import GateError, RunFailed
from thunder.runs.bundles import bundle
from thunder.runs.matrix import matrix_driver, matrix_page, matrix_spec
from thunder.runs.matrix.matrix_driver import HostSlot
from thunder.runs.matrix.matrix_status import CellState, MatrixLedger


def test_runs_are_placed_one_a_host():
    states = [CellState(cell, "waiting", Path("x")) for cell in matrix_spec.matrix_cells(fine())]

    def placed(tried=()):
        places = [HostSlot("a"), HostSlot("b")]
        return [f"{cell.id} {place.name}" for cell, place in matrix_driver.assign_hosts(states, places, tried)]

    assert placed() == ["plain-s1 a", "plain-s2 b"]
    states[0] = CellState(states[0].cell, "running", Path("x"), place="b")
    assert placed() == ["plain-s2 a"]
    states[0] = CellState(states[0].cell, "stopped", Path("x"), place="b")
    states[1] = CellState(states[1].cell, "done", Path("x"), place="a")
    assert placed() == ["plain-s1 b", "plain-s3 a"]
    assert placed({"plain-s1", "plain-s3"}) == ["traj-s1 a", "traj-s2 b"]


@pytest.mark.expensive
def test_a_matrix_is_run_sealed_and_shown(tmp_path):
    ledger = MatrixLedger(tmp_path, little())
    states = matrix_driver.run_matrix(ledger, how(tmp_path))
    assert [one.state for one in states] == ["sealed"] * 4
    real = [call for call in calls(tmp_path) if "rehearsal" not in call["name"]]
    assert sorted(call["cluster"] for call in real) == ["host0", "host0", "host1", "host1"]
    rehearsed = [call["name"] for call in calls(tmp_path) if "rehearsal" in call["name"]]
    assert rehearsed == ["small.plain-s1.rehearsal", "small.traj-s1.rehearsal"], "one a condition, before all others"
    assert [call["name"] for call in calls(tmp_path)][:2] == rehearsed
    launcher = json.loads((tmp_path / "small.traj-s2" / "launcher.json").read_text())
    (ran,) = [call["argv"] for call in real if call["name"] == "small.traj-s2"]
    assert launcher["argv"][2:] == ran and launcher["cell"] == "traj-s2"
    assert bundle.bundle_faults(tmp_path / "small.traj-s2") == []
    assert len(launcher["sha256"]) == 64
    before = len(calls(tmp_path))
    assert matrix_driver.run_matrix(ledger, how(tmp_path)) == states and len(calls(tmp_path)) == before, (
        "nothing is run again"
    )
    page, text = (
        matrix_page.matrix_html(ledger.plan, states, ledger.folder),
        matrix_page.matrix_markdown(ledger.plan, states),
    )
    assert 'href="../small.plain-s1"' in page and page.count("<svg") == 4 and "Not comparable" not in page
    assert "comparable: small.plain-s1 and small.traj-s1 differ in mode (baseline vs trajectory), as declared" in page
    assert "| trajectory: plain → traj | mode | 2 |" in text


@pytest.mark.expensive
def test_a_run_without_predictions_is_found_before_the_long_ones(tmp_path):
    (tmp_path / "no-dump").touch()
    with pytest.raises(GateError, match="test_predictions.jsonl"):
        matrix_driver.run_matrix(MatrixLedger(tmp_path, little()), how(tmp_path))
    assert all("rehearsal" in call["name"] for call in calls(tmp_path)) and len(calls(tmp_path)) == 1
    (tmp_path / "no-dump").unlink()
    assert len(matrix_driver.run_matrix(MatrixLedger(tmp_path, little()), how(tmp_path))) == 4


def test_other_data_than_the_snapshot_is_found_before_the_long_runs(tmp_path):
    snapshot = {"name": "s", "rows": 42, "split": {"train": 29, "val": 1, "test": 12}}
    with pytest.raises(GateError, match="30 rows in train, the snapshot has 29"):
        matrix_driver.run_matrix(MatrixLedger(tmp_path, little(snapshot=snapshot)), how(tmp_path))
    assert len(calls(tmp_path)) == 1


@pytest.mark.expensive
def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path):
    (tmp_path / "fails-small.plain-s2").touch()
    ledger = MatrixLedger(tmp_path, little())
    with pytest.raises(RunFailed, match="plain-s2: failed: this run is told to fail"):
        matrix_driver.run_matrix(ledger, how(tmp_path))
    assert [one.state for one in ledger.states()] == ["sealed", "failed", "sealed", "sealed"]
    (tmp_path / "fails-small.plain-s2").unlink()
    assert [one.state for one in matrix_driver.run_matrix(ledger, how(tmp_path))] == ["sealed"] * 4


DRIVER = """
import sys
from pathlib import Path
import planted_matrix as tests
from thunder.runs.matrix import matrix_driver
from thunder.runs.matrix.matrix_status import MatrixLedger
root = Path(sys.argv[1])
matrix_driver.run_matrix(MatrixLedger(root, tests.little()), tests.how(root, seconds=3.0, rehearse=False), print)
"""


def wait_for(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.05)


@pytest.mark.expensive
@pytest.mark.parametrize("kill_runs", [False, True], ids=["driver", "driver and runs"])
def test_kill_9_and_resume(tmp_path, kill_runs):
    code = tmp_path / "driver.py"
    code.write_text(DRIVER)
    environ = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(SEARCHED)}
    driver = subprocess.Popen([sys.executable, str(code), str(tmp_path)], env=environ)
    ledger = MatrixLedger(tmp_path, little())
    try:
        begun = lambda: all((tmp_path / f"small.plain-s{seed}" / "config.yaml").is_file() for seed in (1, 2))  # noqa: E731
        wait_for(begun)
        os.kill(driver.pid, signal.SIGKILL)
    finally:
        driver.kill()
        driver.wait()
    if kill_runs:
        for call in calls(tmp_path):
            os.kill(call["pid"], signal.SIGKILL)
        wait_for(lambda: not any(ledger.is_running(cell) for cell in matrix_spec.matrix_cells(ledger.plan)))
        assert [one.state for one in ledger.states()][:2] != ["running"] * 2
    else:
        assert [one.state for one in ledger.states()] == ["running", "running", "waiting", "waiting"]
    states = matrix_driver.run_matrix(ledger, how(tmp_path, rehearse=False))
    assert [one.state for one in states] == ["sealed"] * 4
    names = [(call["name"], call["resume"]) for call in calls(tmp_path)]
    again = [("small.plain-s1", True), ("small.plain-s2", True)] if kill_runs else []
    assert sorted(names) == sorted(
        [(f"small.{run}-s{seed}", False) for run in ("plain", "traj") for seed in (1, 2)] + again
    )


@pytest.mark.expensive
def test_ctrl_c_reaches_the_runs(tmp_path):
    code = tmp_path / "driver.py"
    code.write_text(DRIVER.replace("seconds=3.0", "seconds=60.0"))
    environ = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(SEARCHED)}
    command = [sys.executable, str(code), str(tmp_path)]
    driver = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
    ledger = MatrixLedger(tmp_path, little())
    try:
        wait_for(lambda: len(calls(tmp_path)) == 2)
        wait_for(lambda: all((tmp_path / f"small.plain-s{seed}" / "config.yaml").is_file() for seed in (1, 2)))
        os.kill(driver.pid, signal.SIGINT)
        said = driver.communicate(timeout=60)[1]
    finally:
        driver.kill()
        driver.wait()
    assert "its runs saved their state" in said
    assert not any(ledger.is_running(cell) for cell in matrix_spec.matrix_cells(ledger.plan))

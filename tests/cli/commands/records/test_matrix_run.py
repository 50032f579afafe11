"""A matrix of real trainings: tones for words, two modes, two local hosts; a driver and a run killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import tones

from thunder.cli.main import main
from thunder.runs.bundles import bundle
from thunder.runs.matrix import matrix_spec
from thunder.runs.matrix.matrix_status import MatrixLedger


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    return tones.matrix_file(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_real_runs_survive_kill_9(file, tmp_path, capsys):
    command = [sys.executable, "-P", "-m", "thunder", "matrix", "run", str(file), "--cluster", "local"]
    environ = dict(os.environ)
    driver = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
    plan = matrix_spec.read_matrix(file)
    ledger = MatrixLedger(tmp_path / "runs", plan)
    folders = [ledger.run_folder(cell) for cell in matrix_spec.matrix_cells(plan)]
    try:
        until = time.monotonic() + 300
        while not all(any((folder / "checkpoints").glob("step-*")) for folder in folders):
            assert time.monotonic() < until and driver.poll() is None
            time.sleep(0.2)
    finally:
        driver.kill()
        driver.wait()
    os.kill(int((folders[0] / ".lock").read_text()), signal.SIGKILL)
    assert main(["matrix", "resume", str(file), "--cluster", "local"]) == 0
    for folder in folders:
        assert bundle.bundle_faults(folder) == [] and bundle.manifest_digest(folder)
        assert main(["memcheck", str(folder)]) == 0
    steps = [
        json.loads(line)["step"] for line in (folders[0] / "metrics.jsonl").read_text().splitlines() if "loss" in line
    ]
    assert steps[-1] == 60 and len(folders) == 2
    assert "as declared" in (ledger.folder / "matrix.md").read_text()

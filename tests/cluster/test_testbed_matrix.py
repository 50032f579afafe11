"""A matrix over real ssh: one run at a time on each of two hosts, a host and the driver lost in the middle, a table."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
import tones
from test_testbed import CABLE_OF_4, CABLE_OF_5, MACS, REPOSITORY, fault, macs, pytestmark

from thunder.cli.main import main
from thunder.runs.bundles import bundle
from thunder.runs.matrix import matrix_spec
from thunder.runs.matrix.matrix_status import MatrixLedger

__all__ = ["fault", "macs", "pytestmark"]


@pytest.fixture
def desk(macs, tmp_path, monkeypatch):
    """The cluster file, and what starts `thunder` on mac1 with runs in a folder that this test reads too."""
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    hosts = [("Mac4", "mac4", CABLE_OF_4), ("Mac5", "mac5", CABLE_OF_5)]
    said = [
        {"name": name, "ssh": ssh, "ips": [ip], "runs": "~/runs", "python": macs.python, "folder": str(REPOSITORY)}
        for name, ssh, ip in hosts
    ]
    (tmp_path / "desk.yaml").write_text(json.dumps({"hosts": said, "env": {"OPENBLAS_NUM_THREADS": "1"}}))

    def start(*words: str) -> subprocess.Popen:
        command = [sys.executable, str(MACS), "exec", "mac1", "env", f"THUNDER_RUNS={tmp_path / 'runs'}"]
        command += [f"THUNDER_STATE={tmp_path / 'state'}", f"PYTHONPATH={REPOSITORY}"]
        command += [sys.executable, "-P", "-m", "thunder", *words, "--cluster", str(tmp_path / "desk.yaml")]
        return subprocess.Popen(
            command, env=macs.environ, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=(tmp_path / "log").open("w")
        )

    return start


@pytest.mark.timeout(900)
def test_a_matrix_survives_its_driver_and_a_host(desk, macs, fault, tmp_path):
    file = tones.matrix_file(tmp_path, seeds=(1, 2), iters=90)
    plan = matrix_spec.read_matrix(file)
    ledger = MatrixLedger(tmp_path / "runs", plan)
    folders = {cell.id: ledger.run_folder(cell) for cell in matrix_spec.matrix_cells(plan)}
    driver = desk("matrix", "run", str(file))
    until = time.monotonic() + 400
    try:
        while sum(state.state == "running" for state in ledger.states()) < 2 or not all(
            (folders[name] / "metrics.jsonl").is_file() for name in ("baseline-s1", "baseline-s2")
        ):
            assert time.monotonic() < until and driver.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        places = {state.place for state in ledger.states() if state.state == "running"}
        assert places == {"Mac4", "Mac5"}, "one run on each host"
        fault("fault", "kill-host", "mac5", back=("fault", "boot-host", "mac5"))
        macs("fault", "kill-procs", "mac1")
        driver.wait(30)
    finally:
        driver.kill()
    assert any(state.state == "failed" for state in ledger.states())
    macs("fault", "boot-host", "mac5")
    macs.until_healthy()
    again = desk("matrix", "resume", str(file))
    try:
        assert again.wait(600) == 0, (tmp_path / "log").read_text()
    finally:
        again.kill()
    for folder in folders.values():
        assert bundle.bundle_faults(folder) == [] and bundle.manifest_digest(folder)
    assert {json.loads((folder / "launcher.json").read_text())["place"] for folder in folders.values()} == places

    spec = tmp_path / "tables.yaml"
    names = {mode: [folders[f"{mode}-s{seed}"].name for seed in (1, 2)] for mode in ("baseline", "trajectory")}
    table = {"name": "modes", "rows": list(names), "columns": ["cer", "runs"]}
    spec.write_text(json.dumps({"runs": names, "tables": [table]}))

    def built() -> dict[str, bytes]:
        assert main(["tables", "build", "-s", str(spec)]) == 0
        return {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.stem in ("modes", "tables.lock")}

    first = built()
    assert len(first) >= 3 and first == built()
    assert main(["tables", "check", "-s", str(spec)]) == 0

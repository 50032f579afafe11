"""Matrices: the published hole, each rule by itself, runs placed on hosts, drivers and runs killed in the middle."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import planted_runs
import pytest
from conftest import REPOSITORY

from thunder.cli.commands.records.matrix import resolve
from thunder.cli.main import main
from thunder.errors import ConfigError, GateError, RunFailed
from thunder.runs.bundles import bundle
from thunder.runs.matrix import matrix_check, matrix_driver, matrix_page, matrix_spec
from thunder.runs.matrix.matrix_driver import DriverOptions, HostSlot
from thunder.runs.matrix.matrix_spec import Matrix
from thunder.runs.matrix.matrix_status import CellState, MatrixLedger
from thunder.runs.records import spec_file

TESTS = REPOSITORY / "tests"
SEARCHED = [str(TESTS), str(TESTS / "support"), os.environ.get("PYTHONPATH", "")]
SAFE = TESTS / "fixtures" / "safe_matrix.json"
FINE = {
    "id": "small",
    "snapshot": {"name": "s", "rows": 43, "split": {"train": 30, "val": 1, "test": 12}},
    "regime": {"learning_rate": 3e-4, "patience": 10},
    "runs": [
        {"id": "plain", "script": "nko", "mode": "baseline", "seeds": [1, 2, 3]},
        {"id": "traj", "script": "nko", "mode": "trajectory", "seeds": [1, 2, 3]},
        {"id": "slow", "script": "nko", "mode": "trajectory", "seeds": [1, 2, 3], "flags": {"learning_rate": 1e-4}},
    ],
    "comparisons": [{"name": "trajectory", "a": "plain", "b": "traj", "factor": "mode"}],
    "claims": [{"text": "trajectory improves CER", "comparison": "trajectory"}],
    "definitions": "modes.md",
    "budget": {"hours": 20, "usd": 10},
    "estimate": {"hours": 2, "usd_per_hour": 0.5},
}
COMPARISON = {"name": "trajectory", "a": "plain", "b": "traj", "factor": "mode"}
CLAIM = {"text": "it is lower", "comparison": "trajectory", "min_seeds": 1}
DEFINITIONS = "## trajectory\nwhat it is\n"


def fine(**changes) -> Matrix:
    return spec_file.validate_spec(Matrix, copy.deepcopy(FINE) | changes, "test")


def found(plan, definitions=DEFINITIONS):
    return [(one.rule, one.said, one.proposal) for one in matrix_check.check_matrix(plan, resolve, definitions)]


def test_the_published_hole_is_found_before_anything_is_run(capsys):
    assert main(["matrix", "check", str(SAFE)]) == 3
    said = capsys.readouterr().err
    assert "learning_rate (0.0003 vs 0.0001), patience (10 vs 8)" in said.replace("mode.ttt (no vs yes), ", "")
    assert "to fix: add nko_trajectory_290596: " in said
    assert main(["matrix", "check", str(SAFE), "--json"]) == 3
    (one,) = json.loads(capsys.readouterr().out)
    plan = json.loads(SAFE.read_text())
    plan["runs"].append(one["proposal"])
    plan["comparisons"][0]["a"] = one["proposal"]["id"]
    assert found(spec_file.validate_spec(Matrix, plan, "mended"), "") == [], "with what is proposed, the rule holds"


def test_a_fine_matrix():
    assert found(fine()) == []
    assert matrix_check.estimated_hours(fine()) == 18
    assert [cell.id for cell in matrix_spec.matrix_cells(fine())][:4] == ["plain-s1", "plain-s2", "plain-s3", "traj-s1"]


def runs(*changes):
    made = copy.deepcopy(FINE["runs"])
    for number, change in changes:
        made[number] |= change
    return made


@pytest.mark.parametrize("changes, rule, said", [
    ({"runs": runs((1, {"id": "plain"}))}, "names", "run 'plain' occurs 2 times"),
    ({"runs": runs((2, {"flags": {}}))}, "names", "'traj-s1' and 'slow-s1' are the same run"),
    ({"runs": runs((1, {"mode": "trajektory"}))}, "options", "'trajektory' is no mode"),
    ({"runs": runs((1, {"script": "arabic"}))}, "options", "'script'"),
    ({"runs": runs((1, {"flags": {"droput": 0.1}}))}, "options", "Did you mean 'dropout'?"),
    ({"snapshot": FINE["snapshot"] | {"rows": 44}}, "split", "= 43, not its 44 rows"),
    ({"runs": runs((1, {"flags": {"dropout": 0.3}}))}, "one factor", "differ in mode.trajectory (no vs yes), dropout"),
    ({"runs": runs((1, {"mode": "trajectory+ttt"}))}, "one factor", "differ in mode.trajectory (no vs yes), mode.ttt"),
    ({"comparisons": [COMPARISON | {"factor": "dropout"}]}, "one factor", "do not differ in dropout"),
    ({"comparisons": [COMPARISON | {"b": "gone"}]}, "ends", "there is no run 'gone'"),
    ({"claims": [{"text": "x", "comparison": "nothing"}]}, "claims", "no comparison 'nothing'"),
    ({"runs": runs((1, {"seeds": [1, 2]}))}, "seeds", "share 2 seeds, expected 3"),
    ({"claims": [CLAIM], "runs": runs((0, {"seeds": [1]}))}, "seeds", "'lower' needs 3"),
    ({"budget": {"hours": 17}}, "budget", "18 hours are estimated"),
    ({"budget": {"usd": 8.5}}, "budget", "9.00 USD"),
    ({"estimate": {}}, "budget", "no estimate"),
])  # fmt: skip
def test_rules_one_by_one(changes, rule, said):
    assert any(one == rule and said in text for one, text, _ in found(fine(**changes))), found(fine(**changes))


def test_a_word_without_a_definition():
    assert [rule for rule, _, _ in found(fine(), None)] == ["definitions"]
    assert [rule for rule, _, _ in found(fine(), "a trajectoryless text")] == ["definitions"]


def test_flags_and_what_cannot_be_read(tmp_path):
    options = {
        "learning_rate": 1e-4,
        "use_ttt": True,
        "ttt_cap": False,
        "features": ["a", "b"],
        "split": None,
        "seed": 3,
    }
    wanted = "--features a --features b --learning-rate 0.0001 --seed 3 --no-ttt-cap --use-ttt"
    assert matrix_spec.cell_arguments(options) == wanted.split()
    path = tmp_path / "m.json"
    path.write_text(json.dumps(FINE | {"id": "../up", "comparison": []}))
    with pytest.raises(ConfigError, match="unknown key 'comparison'. Did you mean 'comparisons'"):
        matrix_spec.read_matrix(path)
    path.write_text(json.dumps(FINE | {"id": "../up"}))
    with pytest.raises(ConfigError, match="'../up'"):
        matrix_spec.read_matrix(path)
    path.write_text('{"id": "a", "id": "b"}')
    with pytest.raises(ConfigError, match="occurs twice"):
        matrix_spec.read_matrix(path)


def how(root: Path, hosts: int = 2, seconds: float = 0.0, **more) -> DriverOptions:
    places = [HostSlot(f"host{n}", ("--cluster", f"host{n}.yaml")) for n in range(hosts)]
    environ = dict(os.environ) | {"THUNDER_RUNS": str(root), "FAKE_SECONDS": str(seconds)}
    environ["PYTHONPATH"] = os.pathsep.join(SEARCHED)
    return DriverOptions((sys.executable, str(TESTS / "support" / "fake_asr_train.py")), places, environ, **more)


def calls(root: Path) -> list[dict]:
    return planted_runs.read_jsonl(root / "calls.jsonl") if (root / "calls.jsonl").is_file() else []


def little(**changes) -> Matrix:
    made = [
        {"id": "plain", "script": "nko", "seeds": [1, 2]},
        {"id": "traj", "script": "nko", "mode": "trajectory", "seeds": [1, 2]},
    ]
    return fine(**({"runs": made, "claims": []} | changes))


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


def test_what_may_not_be_compared_stands_apart(tmp_path):
    made = [
        {"id": "plain", "script": "nko"},
        {"id": "slow", "script": "nko", "mode": "trajectory", "flags": {"dropout": 0.5}},
    ]
    comparisons = [{"name": "both", "a": "plain", "b": "slow", "factor": "mode"}]
    ledger = MatrixLedger(tmp_path, little(runs=made, comparisons=comparisons))
    states = matrix_driver.run_matrix(ledger, how(tmp_path, rehearse=False))
    for page in (
        matrix_page.matrix_html(ledger.plan, states, ledger.folder),
        matrix_page.matrix_markdown(ledger.plan, states),
    ):
        assert "Not comparable" in page and "Comparisons</h2>" not in page and "## Comparisons" not in page
        assert "not stated" in page and "dropout (0.1 vs 0.5)" in page


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


def test_a_matrix_that_changed_after_its_runs_is_refused(tmp_path):
    matrix_driver.run_matrix(MatrixLedger(tmp_path, little()), how(tmp_path, rehearse=False, only=["plain-s1"]))
    other = little(regime=FINE["regime"] | {"learning_rate": 1.0})
    with pytest.raises(GateError, match="plain-s1 was started with other options"):
        MatrixLedger(tmp_path, other).states()


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_matrices as tests
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
    driver = subprocess.Popen([sys.executable, str(code), str(tmp_path), str(Path(__file__).parent)], env=environ)
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


def test_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    file = tmp_path / "m.json"
    file.write_text(json.dumps(FINE))
    (tmp_path / "modes.md").write_text(DEFINITIONS)
    assert main(["matrix", "check", str(file)]) == 0
    assert main(["matrix", "plan", str(file), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert (len(said["runs"]), said["hours"], said["usd"]) == (9, 18, 9)
    assert said["runs"][0]["command"][-2:] == ["--seed", "1"]
    assert main(["matrix", "run", str(file), "--dry-run", "--only", "traj", "--cluster", "local"]) == 0
    out = capsys.readouterr().out
    assert "on local-0, local-1" in out and out.count("--run-name small.traj-s") == 3
    assert main(["matrix", "run", str(file), "--only", "nothing"]) == 2
    assert main(["matrix", "resume", str(file)]) == 2, "nothing was run yet"
    assert main(["matrix", "status", str(file), "--json"]) == 0
    assert not (tmp_path / "runs").exists(), "looking changes nothing"


@pytest.mark.expensive
def test_ctrl_c_reaches_the_runs(tmp_path):
    code = tmp_path / "driver.py"
    code.write_text(DRIVER.replace("seconds=3.0", "seconds=60.0"))
    environ = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(SEARCHED)}
    command = [sys.executable, str(code), str(tmp_path), str(Path(__file__).parent)]
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

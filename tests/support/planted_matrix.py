"""A small matrix, and options of a driver that starts stand-ins for its runs."""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path

import planted_runs
from conftest import REPOSITORY

from thunder.runs.matrix.matrix_driver import DriverOptions, HostSlot
from thunder.runs.matrix.matrix_spec import Matrix
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

"""Each example runs from a shell as its first lines say, with few iterations."""

from __future__ import annotations

import csv
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

EXAMPLES = REPOSITORY / "examples"


@pytest.fixture
def run_example(tmp_path):
    """Run an example in an empty folder; returns what it printed."""

    def run(name, *words):
        environ = {"PYTHONPATH": str(REPOSITORY), "THUNDER_RUNS": str(tmp_path / "runs")}
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / name), *words],
            cwd=tmp_path, env=os.environ | environ, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_there_are_no_other_examples():
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {"train_and_evaluate.py", "csv_callback.py", "repair_text.py"}


@pytest.mark.expensive
@pytest.mark.timeout(120)
def test_train_and_evaluate(run_example, tmp_path):
    printed = run_example("train_and_evaluate.py", "--iters", "4", "--rows", "4")
    assert "4 steps in" in printed and "CER" in printed and "on 4 rows" in printed
    assert len(list((tmp_path / "runs").glob("*-eval-adapters-*/report.html"))) == 1


@pytest.mark.expensive
@pytest.mark.timeout(120)
def test_csv_callback(run_example, tmp_path):
    run_example("csv_callback.py", "losses.csv", "--iters", "4")
    rows = list(csv.DictReader((tmp_path / "losses.csv").open(encoding="utf-8")))
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 3, 4, 4]
    assert [bool(row["loss"]) for row in rows] == [False, True, True, True, True, False]
    assert all(float(row["loss"] or row["valid_loss"]) > 0 for row in rows)


@pytest.mark.expensive
@pytest.mark.timeout(120)
def test_repair_text(run_example, tmp_path):
    printed = run_example("repair_text.py", "ߒ ߓߍ߫ ߕߊ߯")
    assert "recognized  ߒ ߓߍ߫ ߕߊ߯\n" in printed and "admissible  no" in printed
    assert len((tmp_path / "provenance.jsonl").read_text(encoding="utf-8").splitlines()) == 1

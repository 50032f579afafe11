"""What training really was: four kinds of it really done, published numbers, and tables by hand for each sign."""

from __future__ import annotations

import json
import math
import shutil

import planted_worlds
import pytest
from conftest import REPOSITORY
from training_rows import row, table

from thunder.cli.main import main
from thunder.evaluation.claims import memorization, training_table
from thunder.evaluation.claims.overlap import Overlap
from thunder.evaluation.claims.training_table import TrainingTable

NOTE = REPOSITORY / "tests" / "fixtures" / "note003"


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    root = tmp_path_factory.mktemp("worlds")
    return {name: planted_worlds.train(root, name) for name in ("healthy", "leak", "overfit", "placeholder")}


@pytest.mark.expensive
@pytest.mark.parametrize("name, verdict, code, sign", [
    ("healthy", "healthy", 0, None), ("leak", "leak_suspected", 3, "F1"), ("overfit", "overfit", 0, "F8"),
    ("placeholder", "invalid_training", 4, "F5"),
])  # fmt: skip
def test_worlds_that_were_really_trained(worlds, capsys, name, verdict, code, sign):
    assert main(["memcheck", str(worlds[name]), "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == verdict and found["missing"] == []
    signs = {flag["name"] for flag in found["flags"]}
    assert sign in signs if sign else not signs & {"F1", "F2", "F3", "F4", "F5", "F8"}
    assert json.loads((worlds[name] / "memcheck.json").read_text())["verdict"] == verdict


def test_the_rows_confirm_the_leak_and_clear_the_others(worlds, capsys):
    rows = lambda name: ["--train", str(worlds[name] / "train.jsonl"), "--val", str(worlds[name] / "valid.jsonl")]  # noqa: E731
    assert main(["memcheck", str(worlds["leak"]), *rows("leak")]) == 4
    assert "60 validation rows are among the training rows" in capsys.readouterr().out
    assert main(["memcheck", str(worlds["healthy"]), *rows("healthy")]) == 0
    assert "skipped" not in capsys.readouterr().out
    assert main(["memcheck", str(worlds["leak"]), *rows("leak")[:2]]) == 2, "one file is not compared with anything"


def test_what_was_trained_is_what_was_planted(worlds):
    """The worlds by their own figures, without our verdict."""
    last = {name: training_table.read_training_table(folder).rows[-1] for name, folder in worlds.items()}
    assert last["healthy"].val < 0.9 * math.log(planted_worlds.KINDS) and last["healthy"].probe < last["healthy"].val
    assert last["leak"].val < last["leak"].probe
    assert last["overfit"].val > math.log(planted_worlds.KINDS) > last["overfit"].probe
    assert last["placeholder"].grad == 0


def test_published_numbers_are_a_suspected_leak(capsys, tmp_path):
    note = shutil.copytree(NOTE, tmp_path / "note003")
    assert main(["memcheck", str(note / "1x"), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "leak_suspected"
    assert {"F1", "F7", "F9"} <= {flag["name"] for flag in found["flags"]}
    assert found["passes"] == pytest.approx(163.84 / 18.143)
    assert "train_probe_loss" in found["missing"]
    assert main(["memcheck", str(note / "4x"), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "inconclusive", "a gap of 0.010 is no leak, and without a probe no health either"
    assert {"F7", "F9"} <= {flag["name"] for flag in found["flags"]} and found["best"] == 4
    assert found["wraps"] == [4.53, 9.07]


def test_fine_epochs_are_healthy():
    found = memorization.judge_training(table(), Overlap(10, 0, 0, 0))
    assert (found.verdict, found.flags, found.skipped, found.exit_code) == ("healthy", (), (), 0)


@pytest.mark.parametrize("column", memorization.REQUIRED_COLUMNS)
def test_a_missing_column_is_never_healthy(column):
    found = memorization.judge_training(table(**{column: None}))
    assert found.verdict == "inconclusive" and found.missing == (memorization.REQUIRED_COLUMNS[column],)
    assert found.exit_code == 3
    assert memorization.judge_training(table(**{column: None}), Overlap(10, 1, 1, 0)).verdict == "leak_confirmed"
    assert memorization.judge_training(TrainingTable([])).verdict == "inconclusive"


@pytest.mark.parametrize("changes, verdict, sign", [
    ({"val": 1.4}, "leak_suspected", "F1"),  # the probe is 1.5
    ({"val": 1.49, "running": 1.485}, "healthy", None),  # within three errors
    ({"val": 1.4, "val_se": 0.05}, "lag_only", "F2"),  # by chance, as far as one can tell; and below running 1.6
    ({"val": 1.55}, "lag_only", "F2"),
    ({"wall": 0.09}, "invalid_training", "F5"),
    ({"val": 1.95, "probe": 1.0, "val_se": 0.01}, "overfit", "F8"),
    ({"val": 1.95, "probe": 1.5}, "healthy", None),  # it rises, but nothing is known by heart
    ({"val_se": 0.2, "val": 1.69}, "healthy", "F6"),
    ({"wraps": 1.2}, "healthy", "F7"),
])  # fmt: skip
def test_signs_one_by_one(changes, verdict, sign):
    found = memorization.judge_training(table(**changes))
    assert found.verdict == verdict
    assert {flag.name for flag in found.flags} == ({sign} if sign else set()) | (
        {"F2"} if sign == "F1" and changes["val"] < 1.6 else set()
    )


def test_a_loss_that_stands_still_or_no_gradient_is_no_training():
    still = TrainingTable([row(number, running=1.0) for number in range(4)], planned=1.0)
    assert memorization.judge_training(still).verdict == "invalid_training"
    assert (
        memorization.judge_training(TrainingTable([row(number, grad=0.0) for number in range(4)])).verdict
        == "invalid_training"
    )


def test_rows_that_were_easier_from_the_beginning_are_no_leak():
    rows = [row(number, val=1.6 - 0.1 * number) for number in range(5)]
    assert memorization.judge_training(TrainingTable(rows, 1.0)).verdict == "leak_suspected"
    before = row(-1, probe=2.2, val=1.8)
    found = memorization.judge_training(TrainingTable(rows, 1.0, before))
    assert found.verdict == "lag_only" and "easier" in found.notes[0]


def test_where_passes_begin():
    rows = [row(number, wraps=(number + 1) * 16.384 / 74.287) for number in range(10)]
    assert memorization.epoch_boundaries(rows) == pytest.approx([4.5341, 9.0682], abs=1e-3)
    assert memorization.epoch_boundaries([row(0, wraps=1.0), row(1, wraps=2.0)]) == [1.0], (
        "a pass that ends is no new one"
    )

"""Hypotheses: digests and times of what was frozen, and treatments that were not applied."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import planted_runs
import pytest
from conftest import REPOSITORY

from thunder.cli.main import main
from thunder.errors import ArtifactError, ConfigError, UsageError
from thunder.launcher.job_settings import changed_inputs
from thunder.launcher.plan import Plan
from thunder.runs.hypotheses import frozen_hypothesis

FIXTURES = REPOSITORY / "tests" / "fixtures"


def test_the_published_case_is_void(tmp_path, capsys):
    where = shutil.copytree(FIXTURES, tmp_path / "fixtures")
    assert main(["hypothesis", "eval", str(where / "lr_budget.json"), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"].startswith("void: treatment not applied")
    assert any("budget not run: 22000 of 80000" in each for each in found["void"])
    assert found["x"] == 9.7507
    assert main(["hypothesis", "eval", str(where / "lr_budget.json")]) == 3
    assert "\nvoid: treatment not applied" in capsys.readouterr().out


def pair(tmp_path, **treated):
    """A control at 3e-4 and a treated run at 1e-4, their logs as they should be."""
    fine = {"learning_rate": 1e-4} | treated
    rates = planted_runs.plain_metrics(400, 3e-4), planted_runs.plain_metrics(400, fine["learning_rate"])
    for line in (*rates[0], *rates[1]):
        line["time"] = 5000.0 + line["step"]
    metrics = fine.pop("metrics", rates[1])
    control = planted_runs.recognizer_run(tmp_path, "control", metrics=rates[0])
    return planted_runs.recognizer_run(tmp_path, "treated", metrics=metrics, **fine), control


def written(tmp_path, **changes) -> Path:
    said = {"id": "rate", "treatment": {"key": "lr", "before": 3e-4, "after": 1e-4}, "metric": "test.cer",
            "measure": "treated - control", "outcomes": [{"when": "x < 0", "verdict": "lower"},
            {"when": "x >= 0", "verdict": "not lower"}], "budget_steps": 400}  # fmt: skip
    path = tmp_path / "h.json"
    path.write_text(json.dumps(said | changes))
    return path


def test_an_outcome(tmp_path):
    treated, control = pair(tmp_path)
    path = written(tmp_path)
    sha256 = frozen_hypothesis.freeze_hypothesis(path, now=1000)
    assert frozen_hypothesis.freeze_hypothesis(path, now=2000) == sha256
    assert len((tmp_path / "h.json.frozen.jsonl").read_text().splitlines()) == 1
    found = frozen_hypothesis.evaluate_hypothesis(path, treated, control)
    assert (found.verdict, found.x, found.void) == ("not lower", 0.0, ())
    assert len(found.skipped) == 1 and "it logs none" in found.skipped[0]


def test_the_digest_that_the_run_logged_before_it_began_has_to_be_the_same(tmp_path):
    treated, control = pair(tmp_path)
    path = written(tmp_path)
    with pytest.raises(UsageError, match="never frozen"):
        frozen_hypothesis.frozen_reference(path)
    frozen_hypothesis.freeze_hypothesis(path, now=1000)
    logged = frozen_hypothesis.frozen_reference(path)
    assert logged["frozen"] == 1000
    planned(treated, logged)
    assert frozen_hypothesis.evaluate_hypothesis(path, treated, control).skipped == ()
    planned(treated, logged | {"sha256": "0" * 64})
    with pytest.raises(ArtifactError, match="is not the hypothesis that .* was started with"):
        frozen_hypothesis.evaluate_hypothesis(path, treated, control)


def planned(run, logged):
    plan = json.loads((run / "plan.json").read_text()) | {"hypothesis": logged}
    planted_runs.write_json(run / "plan.json", plan)


@pytest.mark.expensive
def test_a_run_logs_it_in_its_plan_and_none_that_is_not_frozen(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    path = written(tmp_path)
    train = ["train", "--ranks", "1", "--iters", "10", "--dry-run", "--json", "--hypothesis", str(path)]
    assert main(train) == 2 and "never frozen" in capsys.readouterr().err
    assert main(["hypothesis", "freeze", str(path)]) == 0
    sha256 = capsys.readouterr().out.split()[-1]
    assert main(train) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["hypothesis"]["sha256"] == sha256
    other = plan | {"hypothesis": {"sha256": "0" * 64}}
    found = changed_inputs(Plan.model_validate(plan), Plan.model_validate(other))
    assert found == [f"hypothesis (SHA-256): {sha256} in the run, {'0' * 64} now"]
    path.write_text(path.read_text().replace("x < 0", "x < 1").replace("x >= 0", "x >= 1"))
    assert main(train) == 4, "changed since"


@pytest.mark.parametrize("changes, options, said", [
    ({}, {"learning_rate": 3e-4}, "treatment not applied"),
    ({}, {"iters": 400, "metrics": []}, "treatment not shown"),
    ({"budget_steps": 500}, {}, "budget not run: 400 of 500"),
    ({}, {"dropout": 0.5}, "other factors"),
    ({"treatment": {"key": "lr", "before": 3e-4, "after": 2e-4}}, {}, "other treatment"),
    ({"metric": "test.nothing"}, {}, "not measured"),
])  # fmt: skip
def test_what_makes_it_void(tmp_path, changes, options, said):
    treated, control = pair(tmp_path, **options)
    path = written(tmp_path, **changes)
    frozen_hypothesis.freeze_hypothesis(path, now=1000)
    found = frozen_hypothesis.evaluate_hypothesis(path, treated, control)
    assert found.verdict.startswith("void: ") and any(each.startswith(said) for each in found.void)


def test_editing_it_after_the_run_is_found(tmp_path, capsys):
    treated, control = pair(tmp_path)
    path = written(tmp_path)
    with pytest.raises(UsageError, match="never frozen"):
        frozen_hypothesis.evaluate_hypothesis(path, treated, control)
    frozen_hypothesis.freeze_hypothesis(path, now=1000)
    path.write_text(path.read_text().replace("x < 0", "x <= 0").replace("x >= 0", "x > 0"))
    runs = ["--treated", str(treated), "--control", str(control)]
    assert main(["hypothesis", "eval", str(path), *runs]) == 4
    assert "changed since it was frozen" in capsys.readouterr().err
    frozen_hypothesis.freeze_hypothesis(path, now=9000)  # freezing what was changed does not help: the run is older
    assert main(["hypothesis", "eval", str(path), *runs]) == 4
    assert "after the treated run started" in capsys.readouterr().err
    written(tmp_path)  # put back, it is what was frozen first
    assert main(["hypothesis", "eval", str(path), *runs]) == 0
    (tmp_path / "h.json.frozen.jsonl").write_text('{"sha256": 1}\n')
    with pytest.raises(ArtifactError, match="damaged"):
        frozen_hypothesis.evaluate_hypothesis(path, treated, control)


@pytest.mark.parametrize("changes, said", [
    ({"outcomes": [{"when": "x < 0", "verdict": "a"}]}, "'0 <= x' has no outcome"),
    ({"treatment": {"key": "lr", "before": 1, "after": 1}}, "changes nothing"),
    ({"outcome": []}, "unknown key 'outcome'. Did you mean 'outcomes'?"),
    ({"manipulation_check": {"differs_by": -1}}, "'manipulation_check.differs_by'"),
])  # fmt: skip
def test_what_cannot_be_frozen(tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said.replace("?", "\\?")):
        frozen_hypothesis.freeze_hypothesis(written(tmp_path, **changes))

"""A planned job: `--dry-run` prints the plan, as JSON or as a table, and nothing is trained."""

from __future__ import annotations

import json

import pytest
from version_artifacts import ARTIFACTS

from thunder.cli.console import job_output
from thunder.launcher.job_runner import PlannedJob
from thunder.launcher.plan import read_plan


@pytest.fixture
def planned(monkeypatch):
    """A job of version 0.1.0's plan; to run it is an error."""

    def run(*words, **options):
        raise AssertionError("a dry run trained")

    monkeypatch.setattr(job_output, "run_training", run)
    job = object.__new__(PlannedJob)
    object.__setattr__(job, "plan", read_plan(ARTIFACTS / "runs" / "corrector"))
    return job


def test_the_plan_as_json_is_that_of_the_job(planned, capsys):
    job_output.run_or_show(planned, dry_run=True, as_json=True)
    output = capsys.readouterr()
    stored = json.loads((ARTIFACTS / "runs" / "corrector" / "plan.json").read_text(encoding="utf-8"))
    assert json.loads(output.out) == stored and output.err == ""


def test_the_plan_as_a_table_is_on_stderr(planned, capsys):
    job_output.run_or_show(planned, dry_run=True, as_json=False)
    output = capsys.readouterr()
    assert output.out == "" and f"plan: {planned.plan.job} {planned.plan.run}" in output.err

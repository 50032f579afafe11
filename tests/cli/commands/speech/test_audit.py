"""`thunder audit` as a user types it: what it writes, what it is bound to, exit codes."""

from __future__ import annotations

import json
import shutil

import pytest
from toy_asr_runs import COMMON, thunder, written

from thunder.cli.main import main
from thunder.runs.bundles import audit_record, bundle
from thunder.runs.records import environment

pytestmark = pytest.mark.expensive


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(runs, run, plain run) of short trainings with and without fast weights."""
    root = tmp_path_factory.mktemp("audit")
    features = written(root / "toy")
    for name, mode in (("fast", "trajectory+ttt"), ("plain", "baseline")):
        words = ["train", "--features", str(features), *COMMON, "--iters", "10", "--mode", mode, "--run-name", name]
        done = thunder(root / "runs", "asr", *words)
        assert done.returncode == 0, done.stderr
    return root / "runs"


@pytest.fixture
def runs(made, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(made))
    yield made
    (made / "fast" / audit_record.AUDIT_FILE).unlink(missing_ok=True)


def test_a_real_run_passes_and_its_audit_is_bound_to_it(runs, capsys):
    assert main(["audit", "fast", "--stage", "eval"]) == 0
    said = capsys.readouterr().out
    assert "eval      pass: checked for 6 test utterances, greedy decoding" in said
    assert audit_record.audit_refusals(runs / "fast") == ["no audit of stage pipeline"]
    assert main(["audit", "fast", "--stage", "pipeline", "--updates", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {stage: said["verdict"] for stage, said in found["stages"].items()} == {"eval": "pass", "pipeline": "pass"}
    assert audit_record.audit_refusals(runs / "fast") == [], "the stage before stays, as it still holds"
    log = runs / "fast" / "results.json"
    text = log.read_text()
    try:
        log.write_text(text + "\n")
        assert audit_record.audit_refusals(runs / "fast") == ["results.json differs from the audited file"]
    finally:
        log.write_text(text)


def test_a_changed_prediction_is_exit_code_5_and_named(runs, capsys, monkeypatch):
    of_run = json.loads((runs / "fast" / "results.json").read_text())["blas"]
    monkeypatch.setattr(environment, "blas_name", lambda: of_run)
    path = runs / "fast" / "test_predictions.jsonl"
    text = path.read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    rows[0]["asr_text"] += "x"
    try:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert main(["audit", "fast", "--stage", "eval"]) == 5
        monkeypatch.setattr(environment, "blas_name", lambda: "another")
        assert main(["audit", "fast", "--stage", "eval"]) == 3, "its last digits are others: that may be all"
    finally:
        path.write_text(text)
    said = capsys.readouterr()
    assert f"first: {rows[0]['feat_id']}" in said.out and "violation: eval: reported: 1 of 6" in said.err
    assert audit_record.audit_refusals(runs / "fast") != []


def test_what_cannot_be_audited(runs, capsys):
    assert main(["audit", "plain"]) == 2
    assert "plain: mode baseline has no test-time training" in capsys.readouterr().err
    assert main(["audit", "nothing"]) == 2
    assert main(["audit", "fast", "--stage", "all"]) == 2


def test_a_seal_is_not_broken(runs, tmp_path, monkeypatch, capsys):
    """Audited after the seal, the file is not covered, and verify says so; sealed with it, there is no other audit."""
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path))
    for name in ("before", "after"):
        shutil.copytree(runs / "fast", tmp_path / name)
    bundle.seal_bundle(tmp_path / "before")
    audited = ["--stage", "eval"]
    assert main(["audit", "before", *audited]) == 0
    verdict = bundle.inspect_bundle(tmp_path / "before")
    assert verdict.faults == [] and "audit.json" in verdict.notes[0]
    assert main(["audit", "after", *audited]) == 0
    bundle.seal_bundle(tmp_path / "after")
    assert main(["audit", "after", *audited]) == 2
    assert "sealed with its audit.json" in capsys.readouterr().err and bundle.bundle_faults(tmp_path / "after") == []

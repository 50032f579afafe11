"""Evidence of a run: what is there is what its files say, and what is not there has a reason."""

from __future__ import annotations

import hashlib
import json

import planted_runs
import pytest

from thunder.cli.main import main
from thunder.evaluation.claims import evidence
from thunder.runs.bundles import bundle


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path))
    return planted_runs.recognizer_run(tmp_path)


def places_of_null(value, place=""):
    """Every null of the two upper levels, by brute force; options and the test may say null themselves."""
    if value is None:
        yield place
    elif isinstance(value, dict) and place.count(".") < 1 and place not in ("hyperparameters", "test"):
        for name, inner in value.items():
            yield from places_of_null(inner, f"{place}.{name}" if place else name)


def test_every_number_is_that_of_the_files(run):
    found = evidence.collect_run_evidence(run)
    valid = {line["step"]: line["valid_loss"] for line in planted_runs.read_jsonl(run / "metrics.jsonl")
             if "valid_loss" in line}  # fmt: skip
    best = min(valid, key=valid.get)
    assert (found["summary"]["best_step"], found["summary"]["best_val"]) == (best, valid[best])
    assert found["summary"]["last_val"] == valid[max(valid)]
    assert {epoch["step"]: epoch["val"] for epoch in found["epochs"]} == {s: v for s, v in valid.items() if s}
    assert found["commits"]["train"] == "c" * 40 and found["hyperparameters"]["lr"] == 3e-4
    assert found["test"] == json.loads((run / "results.json").read_text())["test"]
    for each in found["artifacts"]:
        data = (run / each["path"]).read_bytes()
        assert (each["sha256"], each["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert {each["path"] for each in found["artifacts"]} == {path.name for path in run.iterdir()}


def test_each_null_has_its_reason_and_nothing_else_has_one(run):
    with (run / "config.yaml").open("a") as stream:
        stream.write("start_from: null\n")
    found = evidence.collect_run_evidence(run)
    assert found["hyperparameters"]["start_from"] is None
    assert set(found["nulls"]) == set(places_of_null({k: v for k, v in found.items() if k != "nulls"}))
    assert all(found["nulls"].values()) and {"hypothesis", "sealed"} <= found["nulls"].keys()
    (run / "metrics.jsonl").unlink()
    (run / "environment.json").unlink()
    found = evidence.collect_run_evidence(run)
    for place in ("epochs", "corpus.wraps", "summary.best_val"):
        assert "neither metrics.jsonl nor epochs.jsonl" in found["nulls"][place]
    assert {"verdict", "commits.train", "environment.chip", "corpus.sha256"} <= found["nulls"].keys()


def test_the_command_writes_it_but_not_into_a_sealed_run(run, capsys):
    assert main(["runs", "evidence", run.name]) == 0
    said = json.loads(capsys.readouterr().out)
    assert json.loads((run / evidence.EVIDENCE_FILE).read_text()) == said and said["sealed"] is None
    assert main(["runs", "evidence", run.name]) == 0
    assert json.loads(capsys.readouterr().out) == said, "it is no evidence of itself"
    (run / evidence.EVIDENCE_FILE).unlink()
    sha256 = bundle.seal_bundle(run)
    assert main(["runs", "evidence", run.name]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sealed"] == sha256 and not (run / evidence.EVIDENCE_FILE).exists() and "sealed" not in found["nulls"]
    assert main(["runs", "evidence", "nothing"]) == 2

"""Typed results, read from the records that runs, evaluations and the bridge leave."""

from __future__ import annotations

import json

import pytest
from version_artifacts import ARTIFACTS

from thunder.api.results import bridge_decision, evaluation_result, train_result

RUNS = {json.loads(path.read_text())["job"]: path.parent for path in sorted(ARTIFACTS.glob("runs/*/plan.json"))
        if (path.parent / "results.json").is_file()}  # fmt: skip


def results_of(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind, output", [("train", "adapters"), ("asr", "model")])
def test_a_run_of_version_0_1_0(kind, output):
    folder, stored = RUNS[kind], results_of(RUNS[kind])
    result = train_result(kind, folder, stored)
    assert (result.kind, result.run_folder, result.output_folder) == (kind, folder, folder / output)
    assert (result.steps, result.tokens, result.ranks) == (stored["steps"], stored["tokens"], stored["ranks"])
    assert (result.test is not None) == (kind == "train" and "test" in stored)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert set(result.losses) == {line["step"] for line in lines if "loss" in line}
    assert set(result.validation_losses) == {line["step"] for line in lines if "valid_loss" in line}


def test_the_later_line_of_a_step_counts(tmp_path):
    lines = [
        {"step": 1, "loss": 3.0},
        {"step": 2, "loss": 2.5},
        {"step": 1, "loss": 2.0},
        {"step": 2, "valid_loss": 1.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = train_result("pretrain", tmp_path, {"steps": 2, "epochs_begun": 1, "tokens": 5, "ranks": 1})
    assert (result.losses, result.validation_losses) == ({1: 2.0, 2: 2.5}, {2: 1.0})
    assert (result.best_step, result.best_validation_loss, result.test) == (None, None, None)


def test_an_evaluation():
    stored = results_of(ARTIFACTS / "evaluation")
    result = evaluation_result(ARTIFACTS / "evaluation", stored)
    assert (result.rows, result.worse_upper) == (stored["rows"], stored["worse_upper95"])
    assert list(result.cer_change_interval) == stored["cer_change_interval95"]
    without = evaluation_result(ARTIFACTS / "evaluation", stored | {"cer_change_interval95": None})
    assert without.cer_change_interval is None


@pytest.mark.parametrize("token", [None, "a.b"])
def test_only_a_text_with_a_token_is_admissible(token):
    line = {"id": "a", "asr_text": "x", "proposal": "y", "final_text": "y", "decision": "accept", "reasons": [],
            "edits": 1, "confidence": None, "margin": 0.5, "token": token, "provenance_id": "p"}  # fmt: skip
    decision = bridge_decision(line)
    assert (decision.recognized, decision.text, decision.admissible) == ("x", "y", token is not None)

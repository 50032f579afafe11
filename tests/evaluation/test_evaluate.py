"""Evaluations as a folder: one that was interrupted ends in the same files as one that was not."""

from __future__ import annotations

import json

import pytest
from conftest import write_rows

from thunder.evaluation import cases, evaluate
from thunder.evaluation.engines import IdentityEngine, Proposal
from thunder.evaluation.evaluation_settings import EvalSettings
from thunder.evaluation.proposal_ledger import PARTIAL_FILE


class Failing(IdentityEngine):
    """Proposes two rows at a time, and is interrupted before the row of this number."""

    chunk = 2

    def __init__(self, last):
        self.last, self.asked = last, []

    def propose(self, cases, finished=None):
        for case in cases:
            if case.place == self.last:
                raise KeyboardInterrupt
            self.asked.append(case.place)
            yield Proposal(case.input + "x")


def test_an_interrupted_evaluation_ends_as_one_that_was_not(tmp_path):
    rows = [{"id": str(n), "before": "ߊߋ" * (n + 1), "after": "ߊߌ" * (n + 1)} for n in range(7)]
    read = cases.read_cases(write_rows(tmp_path / "r.jsonl", rows))
    settings = EvalSettings(rows="r.jsonl", resamples=100)
    whole = evaluate.run_evaluation(read, settings, Failing(None), None, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        evaluate.run_evaluation(read, settings, Failing(5), None, tmp_path / "cut")
    assert not (tmp_path / "cut" / "results.json").exists()
    told, engine = [], Failing(None)
    again = evaluate.run_evaluation(read, settings, engine, None, tmp_path / "cut", lambda *counts: told.append(counts))
    assert engine.asked == [4, 5, 6] and again["resumed_after"] == 4
    assert told[0] == (4, 7) and told[-1] == (7, 7)
    files = [(tmp_path / name / "predictions.jsonl").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1] and again["files"]["predictions.jsonl"] == whole["files"]["predictions.jsonl"]
    assert json.loads((tmp_path / "cut" / "results.json").read_text())["cer_after"] == whole["cer_after"]
    assert not (tmp_path / "cut" / PARTIAL_FILE).exists()

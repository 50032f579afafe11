"""Evaluation from Python: typed results beside what the commands write."""

from __future__ import annotations

import json

import pytest
from conftest import REPOSITORY

from thunder import evaluate
from thunder.errors import CorpusError, UsageError

ROWS = REPOSITORY / "data" / "sample" / "test.jsonl"


def test_an_evaluation_is_a_typed_result_and_a_folder(tmp_path):
    counts = []
    found = evaluate(
        rows=str(ROWS), engine="oracle", limit=6, out=str(tmp_path / "e"), on_answer=lambda *count: counts.append(count)
    )
    assert (found.folder, found.rows, found.accepted, found.worse) == (tmp_path / "e", 6, 6, 0)
    assert found.cer_before > found.cer_after == 0.0 and found.improved + found.neutral == 6
    assert counts[-1] == (6, 6) and found.cer_change_interval[0] <= found.cer_change <= found.cer_change_interval[1]
    stored = json.loads((tmp_path / "e" / "results.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(found.results))
    assert (tmp_path / "e" / "report.html").is_file()
    with pytest.raises(UsageError, match="holds a finished evaluation"):
        evaluate(rows=str(ROWS), engine="oracle", limit=6, out=str(tmp_path / "e"))


def test_options_that_do_not_fit_are_refused_before_a_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    with pytest.raises(UsageError, match="uses no model"):
        evaluate(rows=str(ROWS), engine="identity", adapter_path="x")
    with pytest.raises(CorpusError, match="none.jsonl"):
        evaluate(rows=str(tmp_path / "none.jsonl"), engine="identity")
    assert not (tmp_path / "runs").exists()

"""The rank's job of a recognizer: training, then the test of the best checkpoint."""

from __future__ import annotations

import json

import pytest
from planted_runs import levenshtein
from toy_feature_store import RECOGNIZER_OPTIONS, write_feature_store

from thunder.launcher.in_process import run_in_process
from thunder.launcher.job_console import SilentConsole
from thunder.launcher.job_kinds import plan_recognizer

pytestmark = pytest.mark.expensive


def test_a_short_run_trains_and_tests_each_test_row(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    options = RECOGNIZER_OPTIONS | {"features": [str(write_feature_store(tmp_path / "toy"))], "iters": 4}
    planned = plan_recognizer(options, None, SilentConsole(), "test")
    results = run_in_process(planned, SilentConsole())
    assert results["steps"] == 4 and results["test"]["rows"] == 6
    read = lambda name: [json.loads(line) for line in (planned.folder / name).read_text().splitlines()]  # noqa: E731
    references = {row["feat_id"]: row["reference_text"] for row in read("test_references.jsonl")}
    texts = {row["feat_id"]: row["asr_text"] for row in read("test_predictions.jsonl")}
    assert references.keys() == texts.keys() and len(texts) == 6
    edits = sum(levenshtein(texts[row_id], references[row_id]) for row_id in texts)
    assert results["test"]["cer"] == pytest.approx(edits / sum(map(len, references.values())))

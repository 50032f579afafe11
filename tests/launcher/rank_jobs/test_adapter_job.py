"""The rank's job of LoRA training: training, the test of base against adapter, and the copy of the adapter."""

from __future__ import annotations

import json

import pytest
from planted_runs import levenshtein

from thunder.launcher.in_process import run_in_process
from thunder.launcher.job_console import SilentConsole
from thunder.launcher.job_kinds import plan_train

pytestmark = pytest.mark.expensive


def test_a_short_run_trains_tests_and_copies_its_adapter(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("THUNDER_STATE", str(tmp_path / "state"))
    options = {"ranks": 1, "iters": 2, "steps_per_report": 1, "test_rows": 3, "adapter_path": str(tmp_path / "copy")}
    planned = plan_train(options, None, SilentConsole(), "test")
    results = run_in_process(planned, SilentConsole())
    assert results["steps"] == 2
    rows = [json.loads(line) for line in (planned.folder / "test_predictions.jsonl").read_text().splitlines()]
    assert len(rows) == results["test"]["rows"] == 3
    characters = sum(len(row["reference_text"]) for row in rows)
    for name, field in (("cer_asr", "asr_text"), ("cer_after", "prediction_after")):
        edits = sum(levenshtein(row[field].strip(), row["reference_text"].strip()) for row in rows)
        assert results["test"][name] == pytest.approx(edits / characters)
    copied = {path.name: path.read_bytes() for path in (tmp_path / "copy").iterdir()}
    assert {"adapters.safetensors", "adapter_config.json"} <= copied.keys()
    assert all((planned.folder / "adapters" / name).read_bytes() == data for name, data in copied.items())

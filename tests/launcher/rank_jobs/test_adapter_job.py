"""The rank's job of LoRA training: training, the test of base against adapter, and the copy of the adapter."""

from __future__ import annotations

import json
import math

import pytest
from conftest import REPOSITORY
from planted_runs import levenshtein
from tiny_models import LAYOUTS, make_model

from thunder.evaluation import adapter_comparison
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


def train_few(tmp_path, monkeypatch, **options):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("THUNDER_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = {"ranks": 1, "iters": 2, "test_rows": 4, "lora_rank": 2, "learning_rate": 1e-4} | options
    planned = plan_train(options, None, SilentConsole(), "test")
    return planned, run_in_process(planned, SilentConsole())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_and_type_trains_and_is_tested(layout, tmp_path, monkeypatch):
    """Wrappers, shards, no template, random weights of other types; gemma2's answers come one row at a time."""
    folder = make_model(layout, tmp_path / layout)
    options = {"model": str(folder), "data": str(REPOSITORY / "data" / "sample"), "num_layers": 2}
    planned, results = train_few(tmp_path, monkeypatch, **options)
    assert results["steps"] == 2 and results["test"]["rows"] == 4 and "test_fault" not in results
    assert math.isfinite(results["best_valid_loss"])
    log = (planned.folder / "train.log").read_text()
    assert ("one row at a time" in log) == (layout == "gemma2"), log


def test_a_finished_run_does_not_fail_by_its_test(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise ValueError("Shapes (8,1,5,9) and (8,2,2,5,9) cannot be broadcast.")

    monkeypatch.setattr(adapter_comparison.ModelEngine, "propose", fail)
    copy = tmp_path / "copy"
    planned, results = train_few(tmp_path, monkeypatch, adapter_path=str(copy))
    assert results["steps"] == 2 and "test" not in results
    assert results["test_fault"].startswith("ValueError: Shapes (8,1,5,9)")
    assert (planned.folder / "adapters" / "adapters.safetensors").is_file()
    assert (copy / "adapters.safetensors").is_file(), "copied before the test"
    log = (planned.folder / "train.log").read_text()
    assert "warning: the test failed, the trained weights are kept: ValueError" in log
    assert "to test them: ./launch.sh eval --model" in log

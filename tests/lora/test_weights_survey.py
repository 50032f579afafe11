"""Weights that a path means: each is held against the manifest that speaks of it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import planted_runs
import pytest

from thunder import digest
from thunder.errors import UsageError
from thunder.lora import weights_survey
from thunder.runs.bundles import bundle
from thunder.training.checkpoints import checkpoint_manifest

BASE, OTHER = "b" * 64, "c" * 64


def change(path, **tensors):
    path.unlink()
    planted_runs.write_tensors(path, tensors)


@pytest.fixture
def run(tmp_path):
    """An adapter's run with two checkpoints; the adapter is what the last one holds."""
    folder = planted_runs.adapter_run(tmp_path)
    planted_runs.write_json(folder / "environment.json", {"base": {"sha256": BASE}})
    config = {"num_layers": 4, "lora_parameters": {"rank": 8}, "thunder": {"base_sha256": BASE}}
    planted_runs.write_json(folder / "adapters" / "adapter_config.json", config)
    for step in (10, 20):
        place = folder / "checkpoints" / f"step-{step:07d}"
        place.mkdir(parents=True)
        weights = np.full((2, 2), step, np.float32)
        planted_runs.write_tensors(place / checkpoint_manifest.WEIGHTS, {"a.lora_b": weights})
        state = {"a.lora_b.m": weights, "learning_rate": np.array(0.1, np.float32)}
        planted_runs.write_tensors(place / checkpoint_manifest.OPTIMIZER, state)
        planted_runs.write_tensors(folder / "adapters" / "adapters.safetensors", {"a.lora_b": weights})
        shutil.copytree(folder / "adapters", place / "best")
        checkpoint_manifest.write_checkpoint_manifest(place, step=step, ranks=1, fingerprint={})
    shutil.copytree(place / "best", folder / "adapters" / "best")
    return folder


def faults(surveys):
    return [f"{check.what}: {check.detail}" for survey in surveys for check in survey.checks if check.state == "fault"]


def states(surveys, what):
    return [check.state for survey in surveys for check in survey.checks if check.what == what]


def test_all_of_a_run(run):
    surveys = weights_survey.survey_weights(run)
    assert [survey.path.parent.name for survey in surveys] == ["checkpoints", "checkpoints", "adapters", "best"]
    (run / "model").mkdir()
    planted_runs.write_tensors(run / "model" / "head.safetensors", {"x": np.ones(2, np.float32)})
    assert [survey.path.name for survey in weights_survey.survey_weights(run)][-1] == "head.safetensors"
    assert faults(surveys) == [] and states(surveys, "base") == ["ok", "ok"]
    assert states(surveys, "answers") == ["skipped", "skipped"], "what needs the base is not claimed"


def test_an_adapter_that_is_not_the_checkpoints(run):
    change(run / "adapters" / "adapters.safetensors", **{"a.lora_b": np.full((2, 2), 21, np.float32)})
    assert faults(weights_survey.survey_weights(run / "adapters")) == [
        "digests: a.lora_b: its bytes are not the recorded ones"
    ]
    change(run / "adapters" / "best" / "adapters.safetensors", **{"a.lora_b": np.full((2, 2), 21, np.float32)})
    assert faults(weights_survey.survey_weights(run / "adapters" / "best")) == [
        "digests: its bytes are not the recorded ones"
    ]


def test_a_foreign_adapter(run):
    (fault,) = faults(weights_survey.survey_weights(run / "adapters", OTHER))
    assert "another base" in fault and "bbbbbbbbbbbb" in fault and "cccccccccccc" in fault
    planted_runs.write_json(run / "environment.json", {"base": {"sha256": OTHER}})
    assert len(faults(weights_survey.survey_weights(run))) == 2
    (run / "environment.json").unlink()
    assert states(weights_survey.survey_weights(run / "adapters"), "base") == ["skipped"]


def test_an_adapter_that_changes_nothing(run):
    zero = {"a.lora_a": np.ones((2, 2), np.float32), "a.lora_b": np.zeros((2, 2), np.float32)}
    planted_runs.write_tensors(run / "adapters" / "adapters.safetensors", zero)
    assert any("it changes nothing" in fault for fault in faults(weights_survey.survey_weights(run / "adapters")))


def test_a_file_in_a_checkpoint(run):
    path = run / "checkpoints" / "step-0000020" / checkpoint_manifest.WEIGHTS
    assert faults(weights_survey.survey_weights(path)) == []
    change(path, **{"a.lora_b": np.full((2, 2), np.nan, np.float32)})
    assert len(faults(weights_survey.survey_weights(path))) == 2, "not as recorded, and no numbers"
    assert faults(weights_survey.survey_weights(path.with_name(checkpoint_manifest.OPTIMIZER))) == []


def test_a_sealed_run_names_the_tensor(tmp_path):
    run = planted_runs.recognizer_run(tmp_path)
    path = run / "best.safetensors"
    assert states(weights_survey.survey_weights(run), "digests") == ["skipped"]
    for sha256, state in ((digest.sha256_file(path), "ok"), ("0" * 64, "fault")):
        results = json.loads((run / "results.json").read_text()) | {"checkpoint_sha256": sha256}
        (run / "results.json").write_text(json.dumps(results))
        assert states(weights_survey.survey_weights(run), "digests") == [state]
    results["checkpoint_sha256"] = digest.sha256_file(path)
    (run / "results.json").write_text(json.dumps(results))
    bundle.seal_bundle(run)
    assert states(weights_survey.survey_weights(path), "digests") == ["ok"]
    data = bytearray(path.read_bytes())
    data[-200] ^= 16
    path.unlink()
    path.write_bytes(bytes(data))
    (fault,) = faults(weights_survey.survey_weights(path))
    assert fault == "digests: layer.1: its bytes are not the recorded ones"


@pytest.mark.parametrize("name", ["notes.txt", "empty"])
def test_nothing_to_check(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UsageError):
        weights_survey.survey_weights(tmp_path / name)


def test_a_damaged_environment_is_no_base(run):
    (run / "environment.json").write_text(json.dumps({"base": None}))
    assert states(weights_survey.survey_weights(run), "base") == ["skipped", "skipped"]

"""Settings of new and of resumed runs, and what must not change between them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from version_artifacts import ARTIFACTS

from thunder.config import SettingsLayer
from thunder.errors import ConfigError, UsageError
from thunder.launcher import job_settings
from thunder.launcher.plan import Plan, read_plan
from thunder.lora.lora_settings import LoraSettings

(OLD_RUN,) = [path.parent for path in sorted(ARTIFACTS.glob("runs/*/plan.json"))
              if json.loads(path.read_text())["job"] == "train"][:1]  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of LoRA training in the folder of runs."""
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    folder = tmp_path / "runs" / "20260101-run"
    folder.mkdir(parents=True)
    shutil.copyfile(OLD_RUN / "plan.json", folder / "plan.json")
    (folder / "config.yaml").write_text("iters: 8\nseed: 3\n")
    return folder


def test_paths_of_a_new_run_are_absolute_and_notes_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layers = [
        SettingsLayer("file", {"data": "rows", "iters": 5}, notes=("a note",)),
        SettingsLayer("flags", {"seed": 9}),
    ]
    settings, sources, notes = job_settings.new_settings(LoraSettings, layers)
    assert (settings.data, settings.iters, settings.seed, notes) == (str(tmp_path / "rows"), 5, 9, ("a note",))
    assert (sources["iters"], sources["seed"], sources["lora_rank"]) == ("file", "flags", "default")
    with pytest.raises(ConfigError, match="'resume' is no option of a file"):
        job_settings.new_settings(LoraSettings, [SettingsLayer("file", {"resume": "latest"})])


def test_paths_in_lists_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert job_settings.absolute_path(["a", "/b"]) == [str(tmp_path / "a"), "/b"]
    assert job_settings.absolute_path(None) is None and job_settings.absolute_path("") == ""


def test_a_resumed_run_has_its_own_settings_and_what_is_given_of_the_machine(run):
    settings, sources, _ = job_settings.resumed_settings(LoraSettings, {"resume": run.name}, None, "flags")
    assert (settings.iters, settings.seed, settings.resume) == (8, 3, run.name)
    assert sources["resume"] == "flags" and sources["iters"].endswith("config.yaml")
    with pytest.raises(UsageError, match="keeps the run's own configuration"):
        job_settings.resumed_settings(LoraSettings, {"resume": run.name}, Path("c.yaml"), "flags")


def test_other_options_are_refused_unless_they_are_forced(run):
    given = {"resume": run.name, "iters": 9, "seed": 3}
    with pytest.raises(ConfigError, match="iters: 8 in the run, 9 now") as caught:
        job_settings.resumed_settings(LoraSettings, given, None, "flags")
    assert "seed" not in caught.value.message
    settings, _, _ = job_settings.resumed_settings(LoraSettings, given | {"force": True}, None, "flags")
    assert settings.iters == 9


def test_options_of_the_machine_may_change():
    before, now = {"iters": 8, "balance": "even", "seed": 1}, {"iters": 9, "balance": "auto", "seed": 1, "new": 2}
    assert job_settings.changed_options(before, now) == ["iters: 8 in the run, 9 now"]


def test_inputs_that_changed_are_named(run):
    before = read_plan(run)
    values = before.to_json()
    assert job_settings.changed_inputs(before, Plan.model_validate(values)) == []
    values["model"] |= {"sha256": "f" * 64}
    values["cluster"] |= {"ranks": 7}
    now = Plan.model_validate(values)
    ranks, weights = job_settings.changed_inputs(before, now)
    assert ranks == f"ranks: {before.cluster.ranks} in the run, 7 now"
    assert weights == f"base weights (SHA-256): {before.model.sha256} in the run, {'f' * 64} now"
    with pytest.raises(ConfigError, match="cannot go on exactly"):
        job_settings.check_unchanged(run, LoraSettings, now)
    assert job_settings.check_unchanged(run, LoraSettings, now, force=True)[:2] == [ranks, weights]

"""From options to planned jobs."""

from __future__ import annotations

import pytest

from thunder.errors import UsageError
from thunder.launcher import job_kinds
from thunder.launcher.job_console import SilentConsole
from thunder.launcher.job_kinds import PLANNERS, balance_by_chips, plan_train
from thunder.lora.lora_settings import LoraSettings
from thunder.training.loop_settings import RUNTIME_OPTIONS


def test_auto_is_chosen_where_chips_differ_and_nobody_said_otherwise():
    settings = LoraSettings()
    assert balance_by_chips(settings, {"balance": "default"}, ("M4", "M4")) == (settings, {"balance": "default"})
    chosen, sources = balance_by_chips(settings, {"balance": "default"}, ("M4 Pro", "M4"))
    assert chosen.balance == "auto" and "differ" in sources["balance"]
    said = {"balance": "command line"}
    assert balance_by_chips(settings, said, ("M4 Pro", "M4")) == (settings, said)
    assert "balance" in RUNTIME_OPTIONS and settings.digest() == chosen.digest()


def test_training_without_a_model_or_rows_is_planned_for_the_sample(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    planned = plan_train({"ranks": 2, "iters": 10}, None, SilentConsole(), "flags")
    assert (planned.job.kind, planned.job.name, planned.placement.ranks) == ("train", "sample", 2)
    assert planned.job.settings.iters == 10 and planned.job.sources["iters"] == "flags"
    assert planned.folder.parent == tmp_path / "runs" and not planned.folder.exists()
    assert PLANNERS["train"] is plan_train


@pytest.mark.expensive
def test_epochs_name_the_length_and_are_written_as_iterations(tmp_path):
    planned = plan_train({"ranks": 2, "epochs": 12, "warmup": 5000}, None, SilentConsole(), "flags")
    settings = planned.job.settings
    assert (settings.iters, settings.epochs, settings.max_epochs) == (12 * 160, None, 12)
    assert planned.plan.length.epochs == 12 and planned.plan.sources["iters"] == "flags"
    assert "12 epochs over 320 training rows" in planned.plan.notes
    assert any("a warm-up of 5000 updates in a run of 1920" in note for note in planned.plan.notes)
    file = tmp_path / "run.yaml"
    file.write_text("epochs: 3\n")
    assert plan_train({"ranks": 2, "iters": 7}, file, SilentConsole(), "flags").job.settings.iters == 7
    with pytest.raises(UsageError, match="flags: 'epochs' and 'iters' both name the length"):
        plan_train({"ranks": 2, "epochs": 1, "iters": 7}, None, SilentConsole(), "flags")


def test_flags_of_mlx_lm_are_understood_beside_resume(monkeypatch):
    given = []

    def resumed(kind, options, config, source):
        given.append(options)
        raise UsageError("no further")

    monkeypatch.setattr(job_kinds, "resumed_settings", resumed)
    with pytest.raises(UsageError, match="no further"):
        plan_train({"resume": "latest", "train": True, "optimizer": "adam"}, None, SilentConsole(), "flags")
    assert given == [{"resume": "latest", "weight_decay": 0.0}]

"""From options to planned jobs."""

from __future__ import annotations

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

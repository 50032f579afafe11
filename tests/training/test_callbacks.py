"""The built-in callbacks: new epochs are logged; the best weights are kept; patience ends a run; periods hold."""

from __future__ import annotations

import json

import planted_worlds
import pytest

from thunder.config import SettingsLayer, build_settings
from thunder.parallel.world import World
from thunder.runs.records.run_record import RunRecord
from thunder.training import callbacks
from thunder.training.loop import train_loop
from thunder.training.loop_settings import LoopSettings
from thunder.training.train_context import TrainContext


class Told(RunRecord):
    """A record that keeps its lines."""

    def log(self, text: str) -> None:
        self.told = [*getattr(self, "told", []), text]


class Few(LoopSettings):
    """Settings of rows that should not be gone over often."""

    logs_epochs = True


@pytest.mark.parametrize("kind, epochs", [(Few, [4, 7, 10]), (LoopSettings, [])])
def test_each_new_epoch_is_logged(tmp_path, kind, epochs):
    settings, _ = build_settings(kind, [SettingsLayer("test", {"iters": 10, "batch_size": 20, "save_every": 10})])
    record = Told(tmp_path)
    task = planted_worlds.Classifier(planted_worlds.points(60, 1, 0.1), planted_worlds.points(8, 2, 0.1))
    train_loop(TrainContext(task, settings, World(), record))
    told = [text for text in getattr(record, "told", []) if "epoch" in text]
    assert told == [f"step {step}: epoch {n}" for n, step in enumerate(epochs, start=2)]
    reports = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert reports[-1]["epoch"] == 3


class Scripted(planted_worlds.Classifier):
    """Its validation losses are these, one after the other; it keeps the folders that it was saved to."""

    def __init__(self, losses):
        super().__init__(planted_worlds.points(60, 1, 0.1), planted_worlds.points(8, 2, 0.1))
        self.losses, self.saved = iter(losses), []

    def validation_metrics(self, sums):
        return {"valid_loss": next(self.losses)}

    def save(self, folder):
        self.saved.append(folder)
        super().save(folder)


def train_scripted(folder, losses, **changes):
    task, options = Scripted(losses), {"iters": 12, "batch_size": 20, "steps_per_eval": 2, "save_every": 4} | changes
    settings, _ = build_settings(LoopSettings, [SettingsLayer("test", options)])
    state = train_loop(TrainContext(task, settings, World(), RunRecord(folder)))
    return task, state, [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_best_weights_are_saved_at_each_gain_and_patience_ends_the_run(tmp_path):
    """Validations at steps 0, 2, 4, 6 and 8; the two after step 4 gain nothing."""
    task, state, lines = train_scripted(tmp_path, [3.0, 2.0, 1.0, 1.5, 1.0, 0.5], patience=2)
    assert (state.step, state.best_loss, state.best_step) == (8, 1.0, 4)
    assert state.stopped_early == "no better validation loss in 2 validations"
    best = tmp_path / "model" / "best"
    assert task.saved == [best, best, best, tmp_path / "model", tmp_path / "model"], "after steps 0, 2, 4; 4 and 8"
    validations = [(line["step"], line["valid_loss"], line["best_step"]) for line in lines if "valid_loss" in line]
    assert validations == [(0, 3.0, 0), (2, 2.0, 2), (4, 1.0, 4), (6, 1.5, 4), (8, 1.0, 4)]


def test_reports_and_checkpoints_come_on_their_periods_and_at_the_end(tmp_path):
    _, state, lines = train_scripted(tmp_path, [1.0] * 9, iters=7, steps_per_report=3, save_every=5)
    assert [line["step"] for line in lines if "loss" in line] == [3, 6, 7]
    assert [line["step"] for line in lines if "valid_loss" in line] == [0, 2, 4, 6, 7]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-0000005", "step-0000007"]
    assert lines[-1]["best_step"] == 0 and (state.step, state.stopped_early) == (7, "")


def test_a_report_is_the_mean_over_the_tokens_of_its_steps(tmp_path):
    _, _, single = train_scripted(tmp_path / "each", [1.0] * 9, iters=6, steps_per_report=1)
    _, _, double = train_scripted(tmp_path / "two", [1.0] * 9, iters=6, steps_per_report=2)
    each, pairs = ([line["loss"] for line in lines if "loss" in line] for lines in (single, double))
    assert pairs == pytest.approx([(one + two) / 2 for one, two in zip(each[::2], each[1::2], strict=True)])
    assert [line["tokens"] for line in double if "loss" in line] == [40, 80, 120]


@pytest.mark.parametrize(("threshold", "cleared"), [(None, 2), ("0", 12 + 2), ("1TB", 2)])
def test_unused_memory_is_freed_above_the_threshold_and_at_reports(tmp_path, monkeypatch, threshold, cleared):
    calls = []
    monkeypatch.setattr(callbacks.mx, "clear_cache", lambda: calls.append(1))
    monkeypatch.setattr(callbacks.mx, "get_cache_memory", lambda: 1000)
    train_scripted(tmp_path, [1.0] * 9, clear_cache_threshold=threshold, steps_per_report=6)
    assert len(calls) == cleared

"""The built-in callbacks: the log has a line for each new epoch of a task with few of them."""

from __future__ import annotations

import json

import planted_worlds
import pytest

from thunder.config import SettingsLayer, build_settings
from thunder.parallel.world import World
from thunder.runs.records.run_record import RunRecord
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

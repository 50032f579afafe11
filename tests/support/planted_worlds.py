"""Four kinds of training, really done: a small classifier through the project's own loop, a second each."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx import nn

from thunder.config import SettingsLayer, build_settings
from thunder.parallel.world import World
from thunder.runs.records.run_record import RunRecord
from thunder.training.loop import train_loop
from thunder.training.loop_settings import LoopSettings
from thunder.training.task import Batch
from thunder.training.train_context import TrainContext

WIDTH, KINDS = 12, 6


class Classifier:
    """Points with a kind each, which a straight line tells apart but for some noise; a task for the loop."""

    output = "model"
    groups = ("valid",)

    def __init__(self, train: list[dict], valid: list[dict], hidden: int = 0, stands_still: bool = False) -> None:
        mx.random.seed(3)
        layers = (
            [nn.Linear(WIDTH, hidden), nn.ReLU(), nn.Linear(hidden, KINDS)] if hidden else [nn.Linear(WIDTH, KINDS)]
        )
        self.model = nn.Sequential(*layers)
        mx.eval(self.model.parameters())
        self.train, self.valid, self.rows, self.stands_still = train, valid, len(train), stands_still
        self.lengths = None
        self.compiled = True

    def batch(self, rows, epoch):
        return self._of([self.train[row] for row in rows])

    def _of(self, rows):
        points = mx.array(np.array([row["point"] for row in rows], np.float32))
        return Batch((points, mx.array([row["kind"] for row in rows])), len(rows))

    def loss(self, model, points, kinds):
        if self.stands_still:  # what a forgotten placeholder does: a number that no weight has to do with
            return mx.array(float(kinds.shape[0])) + 0 * model(points).sum()
        return nn.losses.cross_entropy(model(points), kinds).sum()

    def validation(self, rank, size):
        mine = self.valid[rank::size]
        yield from (("valid", self._of(mine[at : at + 8])) for at in range(0, len(mine), 8))

    def probe(self, rank, size):
        mine = self.train[: len(self.valid)][rank::size]
        yield from (self._of(mine[at : at + 8]) for at in range(0, len(mine), 8))

    def validation_metrics(self, sums):
        loss, count = sums["valid"]
        return {"valid_loss": loss / count}

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)


def points(count: int, seed: int, noise: float) -> list[dict]:
    """Rows with an id and a text of their own; noise: share of kinds that are drawn by lot."""
    truth = np.random.default_rng(1).normal(size=(WIDTH, KINDS))
    draw = np.random.default_rng(seed)
    places = draw.normal(size=(count, WIDTH))
    kinds = np.where(draw.random(count) < noise, draw.integers(KINDS, size=count), (places @ truth).argmax(1))
    return [
        {"id": f"{seed}-{number}", "text": f"point {seed} number {number}", "point": place.tolist(), "kind": int(kind)}
        for number, (place, kind) in enumerate(zip(places, kinds, strict=True))
    ]


# by name: rows to train on and to validate on, width of the hidden layer, learning rate
def world(name: str) -> tuple[list[dict], list[dict], int, float]:
    if name == "leak":  # a third of what is trained on is the validation set, again and again
        valid = points(60, 2, 0.9)
        return [*points(240, 1, 0.9), *(valid * 4)], valid, 96, 0.01
    if name == "overfit":
        return points(60, 1, 0.6), points(120, 2, 0.6), 96, 0.004
    return points(300, 1, 0.1), points(160, 2, 0.1), 0, 0.03


def train(root: Path, name: str) -> Path:
    """Train a world; returns the run's folder, with the rows beside its logs."""
    train, valid, hidden, rate = world(name)
    folder = root / name
    updates, batch = 300, 20
    options = {"iters": updates, "batch_size": batch, "learning_rate": rate, "steps_per_eval": 30,
               "steps_per_report": 10, "save_every": 300, "weight_decay": 0.0}  # fmt: skip
    settings, _ = build_settings(LoopSettings, [SettingsLayer("test", options)])
    folder.mkdir()
    for part, rows in (("train", train), ("valid", valid)):
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    epochs = updates * batch / len(train)
    (folder / "plan.json").write_text(json.dumps({"job": "train", "length": {"updates": updates, "epochs": epochs}}))
    task = Classifier(train, valid, hidden, stands_still=name == "placeholder")
    train_loop(TrainContext(task, settings, World(), RunRecord(folder)))
    return folder

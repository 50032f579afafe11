"""Events of a run: the launcher reads from a rank's record what the callbacks inside the rank are told."""

from __future__ import annotations

import json

import planted_worlds
import pytest

from thunder.parallel.world import World
from thunder.runs.records.run_record import RunRecord
from thunder.training import training_events
from thunder.training.loop import train_loop
from thunder.training.loop_settings import LoopSettings
from thunder.training.train_context import TrainContext
from thunder.training.training_events import (
    POINTS,
    Callback,
    CallbackList,
    CheckpointEvent,
    EndEvent,
    StartEvent,
    StepEvent,
    ValidationEvent,
)


class Recorder(Callback):
    """Keeps every event, and the names of the points."""

    def __init__(self):
        self.events, self.points = [], []

    on_start = on_step = on_validation = on_checkpoint = on_end = lambda self, event: self.events.append(event)

    def on_point(self, event):
        self.points.append(event.name)


class RecordedEvents(RunRecord):
    """A record that keeps the JSON of its events."""

    def _send_event(self, event):
        self.sent = [*getattr(self, "sent", []), json.dumps(event)]


def test_the_launcher_reads_the_events_that_callbacks_inside_the_rank_get(tmp_path):
    inside, outside, record = Recorder(), Recorder(), RecordedEvents(tmp_path)
    task = planted_worlds.Classifier(planted_worlds.points(60, 1, 0.1), planted_worlds.points(8, 2, 0.1))
    settings = LoopSettings(iters=6, batch_size=20, save_every=3, steps_per_eval=2, steps_per_report=1)
    train_loop(TrainContext(task, settings, World(), record, callbacks=CallbackList([inside])))
    for text in record.sent:
        event = training_events.from_record_event(json.loads(text), tmp_path)
        if event is not None:
            training_events.send_event(event, outside)
    kinds = {StartEvent: 1, StepEvent: 6, ValidationEvent: 4, CheckpointEvent: 2, EndEvent: 1}
    assert {kind: sum(type(event) is kind for event in outside.events) for kind in kinds} == kinds
    for kind in kinds:
        expected = [event for event in inside.events if type(event) is kind]
        assert [event for event in outside.events if type(event) is kind] == expected
    assert set(inside.points) <= set(POINTS) and "gradient" in inside.points and outside.points == []


@pytest.mark.parametrize(
    "event",
    [
        {"event": "beat"},
        {"event": "phase", "phase": "training", "step": 3},
        {"event": "step", "step": 1},
        {"event": "metrics", "step": 1, "loss": 1.0},
        {"event": "metrics", "step": 1, "valid_loss": 1.0},
        {"event": "checkpoint"},
        {"event": "checkpoint", "step": "seven"},
        {"event": "end", "step": 1},
        {},
    ],
)
def test_an_event_of_another_kind_or_version_is_none(tmp_path, event):
    assert training_events.from_record_event(event, tmp_path) is None


def test_points_reach_those_who_listen_in_their_order():
    class Silent(Callback):
        """Overrides no on_point."""

    first, second, order = Recorder(), Recorder(), []
    first.on_end = lambda event: order.append("first")
    second.on_end = lambda event: order.append("second")
    callbacks = CallbackList([first, Silent(), CallbackList([second])])
    callbacks.reach_point("gradient", step=3)
    callbacks.on_end(EndEvent(3, "finished"))
    assert first.points == second.points == ["gradient"] and order == ["first", "second"]

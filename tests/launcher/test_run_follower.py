"""Following a run: what goes into train.log, onto the display, and to callbacks."""

from __future__ import annotations

import math

from thunder.launcher import run_follower
from thunder.launcher.job_console import SilentDisplay
from thunder.launcher.run_follower import RunFollower, metrics_line, plausible_numbers
from thunder.training.training_events import Callback, CallbackList, EndEvent, StartEvent, StepEvent


class Display(SilentDisplay):
    """Keeps what it is shown."""

    def __init__(self, is_live):
        self.is_live, self.lines, self.changes = is_live, [], []

    def show_line(self, text):
        self.lines.append(text)

    def show_progress(self, **values):
        self.changes.append({name: value for name, value in values.items() if value is not None})


class Recorder(Callback):
    def __init__(self):
        self.events = []

    on_start = on_step = on_validation = on_checkpoint = on_end = lambda self, event: self.events.append(event)


EVENTS = [
    (0, {"event": "phase", "phase": "loading"}),
    (1, {"event": "phase", "phase": "loading"}),
    (0, {"event": "phase", "phase": "training", "step": 0, "steps": 4, "micro_batch_size": 2}),
    (0, {"event": "step", "step": 1, "epoch": 0, "loss": 2.0, "tokens": 5, "learning_rate": 0.1, "grad_norm": 1.0}),
    (1, {"event": "step", "step": 1, "epoch": 0, "loss": 2.0, "tokens": 5, "learning_rate": 0.1, "grad_norm": 1.0}),
    (0, {"event": "step", "step": 2}),  # of another version
    (0, {"event": "metrics", "step": 2, "loss": 1.5, "tokens_per_second": 10.0}),
    (1, {"event": "metrics", "step": 2, "loss": 9.0}),
    (0, {"event": "log", "text": "step 3: epoch 2"}),
    (0, {"event": "test", "done": 2, "total": 2}),
    (0, {"event": "end", "step": 4, "reason": "finished", "best_loss": None, "best_step": None}),
]


def follow(folder, display, callbacks=()):
    with RunFollower(4, folder, display, CallbackList(callbacks)) as follower:
        for rank, event in EVENTS:
            follower.on_event(rank, event)
    return [line[20:] for line in (folder / "train.log").read_text(encoding="utf-8").splitlines()]


LINES = ["loading ...", "step 2/4  loss 1.5000  10 tok/s", "step 3: epoch 2", "tested 2/2 answers"]


def test_the_log_holds_every_line_and_a_live_display_no_metrics(tmp_path):
    plain, live = Display(False), Display(True)
    assert follow(tmp_path, plain) == LINES and plain.lines == LINES
    assert follow(tmp_path, live)[4:] == LINES and live.lines == ["loading ...", "step 3: epoch 2"]
    assert {"done": 2, "detail": "loss 1.5000  10 tok/s"} in live.changes and {"phase": "training"} in live.changes


def test_callbacks_receive_the_events_of_rank_0_as_those_inside_a_rank_do(tmp_path):
    recorder = Recorder()
    follow(tmp_path, SilentDisplay(), [recorder])
    assert recorder.events == [
        StartEvent(tmp_path, 0, 4, 2), StepEvent(1, 0, 2.0, 5, 0.1, 1.0), EndEvent(4, "finished"),
    ]  # fmt: skip


def test_numbers_that_cannot_be_shown_are_left_out():
    values = {"loss": math.nan, "tokens": 1e20, "text": "x", "step": 3}
    assert plausible_numbers(values).keys() == {"loss", "step"}
    assert metrics_line({"loss": math.nan, "valid_loss": 1.0}) == "loss nan  valid 1.0000 (best nan)"


def test_a_long_validation_says_how_far_it_is(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(run_follower.time, "monotonic", lambda: now[0])
    display = Display(False)
    with RunFollower(4, tmp_path, display) as follower:
        follower.on_event(0, {"event": "phase", "phase": "validating"})
        for seconds, done in ((1, 3), (11, 12), (12, 13), (40, 80)):
            now[0] = 100.0 + seconds
            follower.on_event(0, {"event": "validate", "done": done, "total": 90})
            follower.on_event(1, {"event": "validate", "done": 1, "total": 90})
        follower.on_event(0, {"event": "validate", "done": 5, "total": 0})
    assert display.lines == ["validating 12/90 batches", "validating 80/90 batches"]
    details = [change["detail"] for change in display.changes if "detail" in change]
    assert details[0] == "validating 3/90 batches" and details[-1] == "validating, 5 batches done"

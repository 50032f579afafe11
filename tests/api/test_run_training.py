"""Training from Python: in this process and over ranks, with callbacks; stopped by Ctrl-C and resumed."""

from __future__ import annotations

import os
import signal

import pytest

from thunder import (
    Callback,
    CheckpointEvent,
    EndEvent,
    StartEvent,
    StepEvent,
    ThunderError,
    ValidationEvent,
    resume,
    train,
)
from thunder.errors import ConfigError, Interrupted, UsageError

pytestmark = [pytest.mark.expensive, pytest.mark.timeout(200)]
OPTIONS = {"iters": 8, "steps_per_report": 1, "steps_per_eval": 4, "save_every": 4, "test_rows": 4, "seed": 3}


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("THUNDER_STATE", str(tmp_path / "state"))
    return tmp_path / "runs"


class Recorder(Callback):
    """Keeps every event."""

    def __init__(self):
        self.events = []

    on_start = on_step = on_validation = on_checkpoint = on_end = lambda self, event: self.events.append(event)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


def test_one_rank_here_and_one_rank_of_its_own_are_the_same_run():
    here, there = Recorder(), Recorder()
    inside = train(ranks=1, callbacks=[here], **OPTIONS)
    outside = train(ranks=1, callbacks=[there], in_process=False, **OPTIONS)
    assert [(type(each), each.step) for each in here.events] == [(type(each), each.step) for each in there.events]
    assert [(type(each), each.step) for each in here.events] == [
        (StartEvent, 0), (ValidationEvent, 0), *((StepEvent, step) for step in (1, 2, 3, 4)), (ValidationEvent, 4),
        (CheckpointEvent, 4), *((StepEvent, step) for step in (5, 6, 7, 8)), (ValidationEvent, 8), (CheckpointEvent, 8),
        (EndEvent, 8),
    ]  # fmt: skip
    # another BLAS, or another number of its threads, changes the last digits
    assert inside.losses == pytest.approx(outside.losses, rel=1e-4)
    assert inside.losses == {event.step: event.loss for event in here.of(StepEvent)}
    assert inside.validation_losses == {event.step: event.metrics["valid_loss"] for event in here.of(ValidationEvent)}
    assert (inside.steps, inside.ranks, inside.best_step) == (8, 1, outside.best_step)
    assert here.of(CheckpointEvent)[-1].folder == inside.run_folder / "checkpoints" / "step-0000008"
    assert there.of(CheckpointEvent)[-1].folder.is_dir()
    assert (inside.output_folder / "adapters.safetensors").is_file() and inside.output_folder.name == "adapters"
    assert inside.test is not None and inside.test.rows == 4 and inside.test.cer_before == outside.test.cer_before
    assert (inside.run_folder / "train.log").read_text(encoding="utf-8").count("valid loss") == 3


class StopAt(Callback):
    """Presses Ctrl-C after a step."""

    def __init__(self, step):
        self.step = step

    def on_step(self, event):
        if event.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_leaves_a_checkpoint_that_is_resumed_to_the_same_bytes(runs):
    whole = train(ranks=1, run_name="whole", **OPTIONS)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="at step 6, with a checkpoint"):
        train(ranks=1, run_name="cut", callbacks=[StopAt(5)], **OPTIONS)
    assert signal.getsignal(signal.SIGINT) is before
    recorder = Recorder()
    again = resume("cut", callbacks=[recorder])
    assert recorder.events[0] == StartEvent(runs / "cut", 6, 8, 1) and again.steps == 8
    weights = [folder / "adapters.safetensors" for folder in (whole.output_folder, again.output_folder)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_mistake_is_an_error_with_its_fix(runs):
    for options, kind in (({"itres": 3}, ConfigError), ({"ranks": 2, "in_process": True}, UsageError)):
        with pytest.raises(kind) as caught:
            train(**options)
        assert isinstance(caught.value, ThunderError) and caught.value.fix
    assert "Python: unknown key 'itres'. Did you mean 'iters'?" in str(_error(itres=3))
    assert not runs.exists()


def _error(**options):
    with pytest.raises(ThunderError) as caught:
        train(**options)
    return caught.value


class Broken(Callback):
    """A callback with a mistake."""

    def on_step(self, event):
        raise ZeroDivisionError("in a callback")


@pytest.mark.parametrize("in_process", [True, False])
def test_an_exception_of_a_callback_ends_the_run_and_is_the_callers(in_process):
    with pytest.raises(ZeroDivisionError, match="in a callback"):
        train(ranks=1, callbacks=[Broken()], in_process=in_process, **OPTIONS)

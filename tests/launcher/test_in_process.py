"""Jobs of one rank in this process: their results, their events, and what they leave of the process."""

from __future__ import annotations

import json
import signal

import pytest

from thunder.errors import Interrupted, UsageError
from thunder.launcher.in_process import run_in_process
from thunder.launcher.job_console import SilentConsole
from thunder.launcher.job_kinds import plan_train
from thunder.training.training_events import Callback, CallbackList

pytestmark = pytest.mark.expensive


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Plans a short job of so many ranks."""
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("THUNDER_STATE", str(tmp_path / "state"))
    options = {"iters": 4, "steps_per_report": 1, "test_rows": 0}
    return lambda ranks: plan_train(options | {"ranks": ranks}, None, SilentConsole(), "test")


class InterruptAt(Callback):
    """Sends Ctrl-C once, after a step."""

    def __init__(self, step):
        self.step, self.steps = step, []

    def on_step(self, event):
        self.steps.append(event.step)
        if event.step == self.step:
            signal.raise_signal(signal.SIGINT)


def test_more_than_one_rank_is_refused(planned):
    job = planned(2)
    with pytest.raises(UsageError, match="2 ranks on .* cannot run in this process"):
        run_in_process(job, SilentConsole())
    assert not job.folder.exists()


def test_results_are_those_of_the_folder_and_callbacks_receive_each_step(planned):
    job, steps, handler = planned(1), InterruptAt(None), signal.getsignal(signal.SIGINT)
    results = run_in_process(job, SilentConsole(), CallbackList([steps]))
    assert results["steps"] == 4 and steps.steps == [1, 2, 3, 4]
    assert results == json.loads((job.folder / "results.json").read_text())
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_ends_after_the_step_with_a_checkpoint(planned):
    job, handler = planned(1), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted):
        run_in_process(job, SilentConsole(), CallbackList([InterruptAt(2)]))
    assert json.loads((job.folder / "end.json").read_text())["state"] == "stopped"
    assert [path.name for path in (job.folder / "checkpoints").iterdir() if path.is_dir()]
    assert not (job.folder / "results.json").exists() and signal.getsignal(signal.SIGINT) is handler

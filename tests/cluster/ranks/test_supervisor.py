"""What follows from the end of an attempt, with scripted attempts in place of ranks."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from thunder.cluster.inventory.cluster_file import Host
from thunder.cluster.ranks import supervisor
from thunder.cluster.ranks.exit_causes import ExitCause, RankEnd
from thunder.cluster.ranks.oom_fallbacks import fallback_sequence
from thunder.cluster.ranks.supervisor import Supervisor, decide_restart
from thunder.errors import ArtifactError, ClusterError, HangError, Interrupted, ResourceError, RunFailed

HOSTS = [Host(name=name, ssh=name.lower(), ips=[f"10.0.0.{number}"]) for number, name in enumerate(("Mac4", "Mac5"))]
TIMEOUT = "kIOGPUCommandBufferCallbackErrorTimeout"


def end(code=0, rank=0, **more):
    tail = (more.pop("tail", ""),)
    return RankEnd(rank, HOSTS[rank].name, code, more.pop("first", code != 0), tail, Path("/l"), **more)


WELL = (end(), end(rank=1))
KILLED = (end(), end(-9, 1))
BUG = (end(1, tail="KeyError: 1"), end(rank=1))
GPU = (end(-6, tail=TIMEOUT), end(rank=1))
STOPPED = tuple(end(130, rank, told_to_stop=True, interrupted=True) for rank in (0, 1))


def lost(rank):
    return (end(-9, rank, lost="gone"),)


@pytest.mark.parametrize(
    "kind, rung, left, action, error",
    [
        ("killed", 0, 3, "restart", None),
        ("killed", 0, 1, "restart", None),
        ("killed", 0, 0, "stop", HangError),
        ("hang", 0, 3, "restart", None),
        ("hang", 0, 0, "stop", HangError),
        ("host lost", 0, 2, "restart", None),
        ("peer lost", 0, 0, "stop", HangError),
        ("own error", 0, 3, "stop", RunFailed),
        ("interrupted", 0, 3, "stop", RunFailed),
        ("gpu timeout", 0, 3, "step down", None),
        ("gpu timeout", 0, 0, "step down", None),
        ("gpu timeout", 2, 3, "stop", ResourceError),
        ("out of memory", 1, 0, "step down", None),
        ("out of memory", 2, 0, "stop", ResourceError),
    ],
)
def test_what_is_decided(kind, rung, left, action, error):
    decision = decide_restart(ExitCause(kind, 0, "Mac4", RunFailed("the words", "the fix")), rung, 3, left)
    assert decision.action == action
    assert decision.error is None if error is None else type(decision.error) is error
    assert decision.error is None or "the words" in decision.error.message


class Script:
    """Attempts by a script: ends to return, errors to raise, or functions of the supervisor."""

    def __init__(self, folder, *script, **more):
        self.script, self.said, self.attempts, self.away = list(script), [], [], more.pop("away", lambda: {})
        self.folder = folder
        self.supervisor = Supervisor(
            start=self.start,
            folder=folder,
            fallbacks=fallback_sequence(4),
            hosts=HOSTS,
            find_missing=lambda: self.away(),
            print_line=self.said.append,
            **more,
        )

    def start(self, attempt, stop):
        assert stop is self.supervisor.stop
        self.attempts.append(attempt)
        now = self.script.pop(0)
        now = now(self.supervisor) if callable(now) else now
        if isinstance(now, Exception):
            raise now
        return now

    def run(self):
        self.supervisor.run()
        assert not self.script
        return self

    def fails(self, kind):
        with pytest.raises(kind) as caught:
            self.supervisor.run()
        assert not self.script
        return caught.value

    @property
    def incidents(self):
        path = self.folder / "incidents.jsonl"
        return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(supervisor, "HOST_POLL_INTERVAL", 0.05)


def saves(step, ends):
    """An attempt in which a checkpoint is made, and one more step."""

    def now(supervisor):
        supervisor.progress.record_event({"event": "checkpoint", "step": step})
        supervisor.progress.record_event({"event": "step", "step": step + 1})
        return ends

    return now


def test_a_run_without_faults_leaves_no_incident(tmp_path):
    script = Script(tmp_path, WELL).run()
    assert script.said == [] and script.incidents == [] and [each.number for each in script.attempts] == [1]


def test_three_restarts_and_no_more(tmp_path):
    script = Script(tmp_path, KILLED, KILLED, KILLED, KILLED)
    error = script.fails(HangError)
    assert error.exit_code == 7 and error.message.startswith(
        "3 restarts without a new checkpoint; the last end: rank 1"
    )
    assert [each["action"] for each in script.incidents] == ["restart"] * 3 + ["stop"]
    assert [each["attempt"] for each in script.incidents] == [1, 2, 3, 4]
    assert [text.rpartition("(")[2][0] for text in script.said] == ["2", "1", "0"]


def test_a_new_checkpoint_gives_all_restarts_back_and_an_old_one_none(tmp_path):
    faults = [KILLED, KILLED, KILLED, saves(10, KILLED), KILLED, KILLED, saves(10, KILLED)]
    script = Script(tmp_path, *faults)
    script.fails(HangError)
    assert [each["action"] for each in script.incidents] == ["restart"] * 6 + ["stop"]
    last = script.incidents[-1]
    assert (last["step"], last["checkpoint"], last["lost_steps"], last["kind"], last["host"]) == (
        11, 10, 1, "killed", "Mac5",
    )  # fmt: skip


def test_an_own_error_is_not_tried_again(tmp_path):
    script = Script(tmp_path, BUG)
    assert "KeyError: 1" in script.fails(RunFailed).message
    assert [(each["kind"], each["action"]) for each in script.incidents] == [("own error", "stop")]


def test_incidents_that_cannot_be_written_hide_no_error(tmp_path):
    (tmp_path / "incidents.jsonl").mkdir()
    script = Script(tmp_path, KILLED, BUG)
    assert "KeyError: 1" in script.fails(RunFailed).message
    assert any("incidents.jsonl cannot be written" in text for text in script.said)


def test_an_error_of_ours_in_an_attempt_goes_through(tmp_path):
    Script(tmp_path, ArtifactError("damaged")).fails(ArtifactError)


@pytest.mark.parametrize("text", ["port 20000 is taken", ""])
def test_a_cluster_that_cannot_be_started_is_tried_again(tmp_path, text):
    script = Script(tmp_path, ClusterError(text), ClusterError(text), WELL).run()
    assert [each["kind"] for each in script.incidents] == ["peer lost"] * 2 and len(script.attempts) == 3


def test_down_the_ladder_and_nothing_is_taken_from_the_budget(tmp_path):
    learned = []
    faults = [GPU, KILLED, GPU, KILLED, KILLED, WELL]
    script = Script(tmp_path, *faults, on_fallback=lambda found, rung: learned.append((found.kind, rung))).run()
    assert [each.fallback for each in script.attempts] == [0, 1, 1, 2, 2, 2]
    assert learned == [("gpu timeout", 1), ("gpu timeout", 2)]
    assert script.said[0] == "gpu timeout on Mac4: going on with micro-batch 2, the same global batch"


def test_at_the_foot_of_the_ladder(tmp_path):
    script = Script(tmp_path, GPU, fallback=len(fallback_sequence(4)) - 1)
    error = script.fails(ResourceError)
    assert error.exit_code == 8 and "no smaller shape" in error.message


def test_it_waits_for_a_host_and_says_so_once(tmp_path):
    answers = iter([{"Mac5": "no answer"}] * 3 + [{"Mac5": "no link"}] + [{}] * 3)
    script = Script(tmp_path, lost(1), WELL, away=lambda: next(answers)).run()
    assert script.said[1:] == ["waiting for Mac5: no answer", "waiting for Mac5: no link"]
    assert [each.absent for each in script.attempts] == [(), ()]


def test_a_host_that_stays_away_ends_the_run(tmp_path):
    script = Script(tmp_path, lost(1), away=lambda: {"Mac5": "no answer"}, max_wait=0.3)
    error = script.fails(ClusterError)
    assert "Mac5: no answer" in error.message and "resume" in error.fix


def test_nobody_goes_on_alone_where_all_are_gone(tmp_path):
    gone = {"Mac4": "off", "Mac5": "off"}
    Script(tmp_path, lost(1), away=lambda: gone, max_wait=0.3, solo_after=0.0).fails(ClusterError)


def until_asked(supervisor):
    """Solo: makes a checkpoint and trains on until it is asked to stop."""
    supervisor.progress.record_event({"event": "checkpoint", "step": supervisor.progress.checkpoint + 5})
    until = time.monotonic() + 60
    while not supervisor.stop.count:
        assert time.monotonic() < until, "it was never asked to regroup"
        time.sleep(0.01)
    return STOPPED[:1]


def test_alone_and_together_again(tmp_path):
    back = threading.Event()

    def solo(supervisor):
        back.set()
        return until_asked(supervisor)

    def away():
        return {} if back.is_set() else {"Mac5": "off"}

    script = Script(tmp_path, lost(1), solo, WELL, away=away, solo_after=0.1).run()
    assert [each.absent for each in script.attempts] == [(), ("Mac5",), ()]
    assert "going on without Mac5, with the same global batch" in script.said and "joining again" in script.said[-1]
    assert [each["kind"] for each in script.incidents] == ["host lost"], "regrouping is no incident"
    assert not script.supervisor.stop.regrouping


def test_it_joins_only_after_a_checkpoint(tmp_path):
    back = threading.Event()

    def solo(supervisor):
        back.set()
        time.sleep(0.4)
        assert supervisor.stop.count == 0, "there is nothing new to join with"
        return WELL[:1]

    Script(tmp_path, lost(1), solo, away=lambda: {} if back.is_set() else {"Mac5": "off"}, solo_after=0.0).run()


def test_a_fault_that_is_quicker_than_the_regrouping_leaves_no_request_behind(tmp_path):
    back = threading.Event()

    def solo(supervisor):
        back.set()
        until_asked(supervisor)
        return (end(-9),)

    def together(supervisor):
        assert supervisor.stop.count == 0, "it would be stopped as soon as it started"
        return WELL

    away = lambda: {} if back.is_set() else {"Mac5": "off"}  # noqa: E731
    script = Script(tmp_path, lost(1), solo, together, away=away, solo_after=0.0).run()
    assert [each["kind"] for each in script.incidents] == ["host lost", "killed"]


def test_ctrl_c_while_regrouping_is_the_users(tmp_path):
    back = threading.Event()

    def solo(supervisor):
        back.set()
        ends = until_asked(supervisor)
        supervisor.stop.ask()
        return ends

    away = lambda: {} if back.is_set() else {"Mac5": "off"}  # noqa: E731
    Script(tmp_path, lost(1), solo, away=away, solo_after=0.0).fails(Interrupted)


def test_ctrl_c_ends_the_run_and_is_no_incident(tmp_path):
    script = Script(tmp_path, STOPPED)
    assert script.fails(Interrupted).exit_code == 130 and script.incidents == []


def test_ctrl_c_while_it_waits_for_a_host(tmp_path):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))

    def fails(supervisor):
        timer.start()
        return lost(1)

    script = Script(tmp_path, fails, away=lambda: {"Mac5": "off"})
    begun = time.monotonic()
    assert "resume" in script.fails(Interrupted).fix and time.monotonic() - begun < 30
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers


@pytest.mark.parametrize(
    "event", [{}, {"step": "x"}, {"event": "checkpoint", "step": 1.5}, {"event": ["step"], "step": 3}, {"step": None}]
)
def test_events_that_say_nothing_of_progress(event):
    progress = supervisor.RunProgress()
    progress.record_event(event)
    assert (progress.step, progress.checkpoint) == (0, -1)

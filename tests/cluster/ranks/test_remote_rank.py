"""A rank on another host as the launcher sees it, against agents of all kinds: none may bring the launcher down."""

import json
import math
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.cli.console.plan_and_progress import TerminalDisplay
from thunder.cluster.inventory.cluster_file import Host
from thunder.cluster.inventory.rank_plan import RankPlan
from thunder.cluster.ranks import remote_rank
from thunder.cluster.ranks.exit_causes import find_exit_cause, run_error
from thunder.cluster.ranks.protocol import MAX_MESSAGE_BYTES, MESSAGE_PREFIX, encode_message
from thunder.cluster.ranks.remote_rank import RemoteRank, prepare_remote_ranks
from thunder.cluster.ranks.start_ranks import StopRequest, run_ranks
from thunder.cluster.ranks.supervisor import RunProgress
from thunder.cluster.ranks.watchdog import Deadlines
from thunder.errors import ClusterError, HangError, Interrupted, RunFailed, UsageError
from thunder.launcher.run_follower import RunFollower


def plan(rank=0):
    return RankPlan(
        rank=rank,
        host=Host(name=f"Mac{rank}", ssh=f"mac{rank}", ips=["10.0.0.1"]),
        argv=("python3", "-P", "-m", "thunder", "rank", "runs/r"),
        env={},
        cwd=None,
        addresses=("10.0.0.1:20000",),
        run_folder="runs/r",
    )


def said(say, **values):
    return encode_message({"say": say, **values}, MESSAGE_PREFIX)


READY = said("ready", folder="/far/runs/r", pid=1)
WELL = said("ended", returncode=0, tail=[], malformed_events=0, left={})


class Stream:
    """An agent that says given bytes, in pieces, and then is silent, or ends. go: what it says after `go`."""

    def __init__(self, *pieces: bytes, go: bytes = b"", ends: bool = False, deaf: bool = False) -> None:
        self.pieces, self.after_go, self.ends, self.deaf = list(pieces), go, ends, deaf
        self.sent, self.closed = b"", False
        self.ours, self.theirs = socket.socketpair()
        self.theirs.send(b"!")  # always readable

    def fileno(self):
        return self.ours.fileno()

    def receive(self):
        assert not self.closed
        if self.pieces:
            return self.pieces.pop(0)
        return b"" if self.ends else None

    def send(self, data):
        if self.deaf or self.closed:
            raise BrokenPipeError
        self.sent += data
        if b'"go"' in data and self.after_go:
            self.pieces += [self.after_go[at : at + 60_000] for at in range(0, len(self.after_go), 60_000)]

    def close(self):
        self.closed = True
        self.ours.close()
        self.theirs.close()

    @property
    def heard(self):
        return [json.loads(each) for each in self.sent.splitlines()]


@pytest.fixture
def log(tmp_path):
    return tmp_path / "rank-0.log"


def far(log, *pieces, **more):
    stream = Stream(*pieces, **more)
    return RemoteRank(plan(), log, {"config.yaml": "ߊ"}, lambda plan: stream), stream


def follow(tmp_path, after_go, **more):
    """A run whose one rank is on the host of a made-up agent: (ends, events, seconds)."""
    stream, events, begun = Stream(READY, go=after_go, ends=more.pop("ends", False)), [], time.monotonic()
    with TerminalDisplay(10) as display, RunFollower(10, tmp_path, display) as follower:
        progress = RunProgress()

        def on_event(rank, event):
            events.append(event)
            progress.record_event(event)
            follower.on_event(rank, event)

        ends = run_ranks(
            [plan()], log_folder=tmp_path / "logs", on_event=on_event, open_stream=lambda plan: stream, **more
        )
    assert stream.closed
    return ends, events, time.monotonic() - begun


def test_the_whole_of_a_rank(tmp_path):
    after = said("alive") + said("event", event={"event": "step", "step": 1}) + said("log", text="ߊ line")
    ends, events, _ = follow(tmp_path, after + said("ended", returncode=3, tail=["x"], left={"a": "b"}))
    (end,) = ends
    assert (end.returncode, end.tail, end.outputs, end.folder) == (3, ("x",), {"a": "b"}, "/far/runs/r")
    assert events == [{"event": "step", "step": 1}] and end.malformed_events == 0
    assert end.log.read_text(encoding="utf-8") == "ߊ line\n" and end.log.name == "Mac0-rank-0.log"
    assert run_error(ends).message.startswith("rank 0 on Mac0 ended with exit code 3")


def test_what_it_is_asked(log):
    rank, stream = far(log, READY)
    rank.go(), rank.terminate(), rank.dump(), rank.kill()
    request, *orders = stream.heard
    assert request["argv"] == list(plan().argv) and request["files"] == {"config.yaml": "ߊ"}
    assert [each["do"] for each in orders] == ["go", "terminate", "dump", "kill"]
    stream.ends = True
    rank.close()


@pytest.mark.expensive
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_banners_and_pieces_before_it_is_ready(log, size):
    words = b"Welcome to Mac4!\r\nYou have mail.\n\xff\xfe\n{}\nTHUNDER\n" + READY
    rank, stream = far(log, *(words[at : at + size] for at in range(0, len(words), size)))
    rank._stream.ends = True
    rank.close()
    assert rank.end().folder == "/far/runs/r"


@pytest.mark.parametrize(
    "pieces, text",
    [
        ([], "it said nothing"),
        ([b"bash: python3: command not found\n"], "bash: python3: command not found"),
        ([b"ImportError: no thunder"], "it said nothing"),
        ([said("alive"), b"\x1b]0;bad\x07\n"], "bad"),
        (
            [MESSAGE_PREFIX + b"[1]\n", MESSAGE_PREFIX + b"{\n", MESSAGE_PREFIX + b"[" * 100_000 + b"\n"],
            "it said nothing",
        ),
    ],
)
def test_a_channel_that_ends_before_it_is_ready(log, pieces, text):
    stream = Stream(*pieces, ends=True)
    with pytest.raises(ClusterError, match="Mac0: the agent ended before it was ready") as caught:
        RemoteRank(plan(), log, {}, lambda plan: stream)
    assert text in caught.value.message and stream.closed and "setup" in caught.value.fix


def test_one_that_never_gets_ready_is_given_up(log, monkeypatch):
    monkeypatch.setattr(remote_rank, "READY_TIMEOUT", 0.5)
    stream = Stream(*[said("alive")] * 20, deaf=True)
    with pytest.raises(ClusterError, match="not ready within 0.5 s"):
        RemoteRank(plan(), log, {}, lambda plan: stream)
    assert stream.closed


@pytest.mark.parametrize(
    "values, kind, text",
    [
        ({"message": "no room", "fix": "rm", "exit_code": 6}, ClusterError, "no room"),
        ({"message": "no", "exit_code": 2}, UsageError, "no"),
        ({}, RunFailed, "gave no reason"),
        ({"message": "", "exit_code": 6}, ClusterError, "gave no reason"),
        ({"message": ["x"], "fix": 7, "exit_code": "x"}, RunFailed, "['x']"),
        ({"message": {}, "exit_code": [1]}, RunFailed, "gave no reason"),
        ({"exit_code": math.inf}, RunFailed, "gave no reason"),
        ({"exit_code": 1e999, "message": "m" * 1_000_000}, RunFailed, "mmm"),
        ({"exit_code": 10**400}, RunFailed, "gave no reason"),
        ({"exit_code": -5}, RunFailed, "gave no reason"),
    ],
)
@pytest.mark.parametrize("started", [False, True])
def test_a_refusal_of_any_make(tmp_path, values, kind, text, started):
    if started:
        ends, _, _ = follow(tmp_path, said("refused", **values))
        error = run_error(ends)
        assert find_exit_cause(ends).summary
    else:
        stream = Stream(said("refused", **values))
        with pytest.raises(kind) as caught:
            RemoteRank(plan(), tmp_path / "log", {}, lambda plan: stream)
        error = caught.value
        assert stream.closed
    assert type(error) is kind and text in error.message and len(error.message) < 10_000


NOT_NUMBERS = ["x", None, [], {}, [[]], True, 1e999, -1e999, math.nan, 10**400, -(10**400), "\ud800", "\0\x1b["]
FIELDS = {
    "step": ["step"],
    "phase": ["phase", "step"],
    "beat": ["progress", "phase", "step"],
    "checkpoint": ["step"],
    "metrics": "step loss valid_loss best_loss tokens_per_second seconds_left peak_bytes".split(),
    "test": ["done", "total"],
    "log": ["text"],
    "error": ["message", "fix", "exit_code"],
    "results": ["results"],
}


@pytest.mark.parametrize("kind", FIELDS)
def test_events_of_wrong_types_in_every_field(tmp_path, kind):
    good = {name: 1 for name in FIELDS[kind]}
    events = [{"event": kind}] + [{"event": kind, **good, name: bad} for name in good for bad in NOT_NUMBERS]
    events += [{"event": bad} for bad in NOT_NUMBERS]
    after = b"".join(said("event", event=event) for event in events)
    after += b"".join(said("event", event=bad) for bad in NOT_NUMBERS) + said("event")
    ends, taken, _ = follow(tmp_path, after + WELL, deadlines=Deadlines())
    assert ends[0].returncode == 0 and ends[0].lost == ""
    assert len(taken) == len(events) + 1, "`{}` is an event that says nothing"


@pytest.mark.parametrize("bad", [*NOT_NUMBERS, {"a": 1}, [1, None, {}], {"../x": "y", "b": 3}], ids=repr)
@pytest.mark.parametrize("field", ["tail", "left", "malformed_events", "log"])
def test_last_messages_of_wrong_types(tmp_path, field, bad):
    ends, _, _ = follow(tmp_path, said("ended", **{"returncode": 1, field: bad}))
    assert run_error(ends).exit_code == 1
    assert all(isinstance(text, str) for text in (*ends[0].tail, *ends[0].outputs, *ends[0].outputs.values()))
    assert isinstance(ends[0].malformed_events, int)


@pytest.mark.parametrize("bad", [*NOT_NUMBERS, "0", 0.0, 1 << 40])
def test_an_exit_code_that_is_none_is_no_end(tmp_path, bad):
    ends, _, _ = follow(tmp_path, said("ended", returncode=bad), ends=True)
    assert ends[0].lost == "the connection to it was lost" and find_exit_cause(ends).kind == "host lost"


def test_nothing_counts_after_the_last_word(tmp_path):
    more = said("event", event={"event": "step", "step": 9}) + said("ended", returncode=1) + said("refused")
    ends, events, _ = follow(tmp_path, WELL + more, deadlines=Deadlines())
    assert ends[0].returncode == 0 and events == [] and run_error(ends) is None


def test_noise_and_oversized_messages_are_counted_and_dropped(tmp_path):
    huge = MESSAGE_PREFIX + b'{"say": "log", "text": "' + b"x" * (MAX_MESSAGE_BYTES + 200_000) + b'"}\n'
    bomb = MESSAGE_PREFIX + b'{"say":' * 50_000 + b"\n"
    after = (
        b"warning: noise\n"
        + huge
        + bomb
        + MESSAGE_PREFIX
        + b'"a text"\n'
        + said("log", text="y" * 100_000)
        + said("what")
    )
    ends, _, _ = follow(tmp_path, after + said("event", event={"event": "step", "step": 2}) + WELL)
    assert ends[0].returncode == 0 and ends[0].malformed_events == 3
    assert ends[0].log.stat().st_size < 5000, "a line of a log has an end"


@settings(max_examples=80)
@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_at_all(tmp_path_factory, data, size):
    log = tmp_path_factory.mktemp("any") / "log"
    words = data + b"\n" + MESSAGE_PREFIX + data + b"\n" + said("ended", returncode=0)
    rank, stream = far(log, READY, *(words[at : at + size] for at in range(0, len(words), size)), ends=True)
    while rank.read_events(lambda rank, event: None):
        rank.poll(lambda rank, event: None)
    assert rank.end().returncode == 0
    rank.close()


@pytest.mark.parametrize(
    "before", [b"", said("event", event={"event": "step", "step": 1}), MESSAGE_PREFIX + b'{"say": "ended']
)
def test_a_channel_that_ends_while_the_rank_runs(tmp_path, before):
    ends, _, seconds = follow(tmp_path, before, ends=True)
    assert (
        ends[0].lost == "the connection to it was lost" and find_exit_cause(ends).kind == "host lost" and seconds < 15
    )
    assert isinstance(run_error(ends), ClusterError)


@pytest.mark.expensive
def test_a_host_that_falls_silent_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(remote_rank, "SILENCE_TIMEOUT", 1.0)
    ends, _, seconds = follow(tmp_path, said("event", event={"event": "step", "step": 1}))
    assert (
        "no message arrived from it for 1 s" in ends[0].lost
        and find_exit_cause(ends).kind == "host lost"
        and seconds < 15
    )


@pytest.mark.expensive
def test_a_rank_that_stalls_there_is_told_to_dump_and_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(remote_rank, "EXIT_TIMEOUT", 0.5)
    stream = Stream(READY)
    alive = threading.Event()

    def receive():
        time.sleep(0.05)
        return stream.pieces.pop(0) if stream.pieces else said("ended", returncode=-9) if alive.is_set() else None

    def send(data, plain=stream.send):
        plain(data)
        if b"kill" in data:
            alive.set()

    stream.receive, stream.send = receive, send
    ends = run_ranks(
        [plan()],
        log_folder=tmp_path,
        on_event=lambda rank, event: None,
        open_stream=lambda plan: stream,
        deadlines=Deadlines.every(1),
    )
    assert "made no progress" in ends[0].stalled and isinstance(run_error(ends), HangError)
    assert [each["do"] for each in stream.heard[1:] if each["do"] != "ping"][:3] == ["go", "dump", "kill"]


def test_one_that_takes_no_orders_is_left_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(remote_rank, "EXIT_TIMEOUT", 0.3)
    rank, stream = far(tmp_path / "log", READY)
    stream.deaf = True
    begun = time.monotonic()  # the time limit that is not patched is 3 s
    rank.close()
    assert time.monotonic() - begun < 2.8 and rank.end().lost == "it did not report the end of its rank"


def test_signs_of_life_are_sent_while_nothing_happens(log, monkeypatch):
    monkeypatch.setattr(remote_rank, "HEARTBEAT_INTERVAL", 0.1)
    rank, stream = far(log, READY)
    for _ in range(10):
        rank.poll(lambda rank, event: None)
        time.sleep(0.05)
    assert sum(each.get("do") == "ping" for each in stream.heard) >= 3
    stream.ends = True
    rank.close()


def test_one_host_that_cannot_be_prepared_lets_go_of_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(remote_rank, "EXIT_TIMEOUT", 0.3)
    streams = [Stream(READY), Stream(said("refused", message="full", exit_code=6)), Stream(b"no\n", ends=True)]
    with pytest.raises(ClusterError, match="full"):
        prepare_remote_ranks([plan(rank) for rank in range(3)], tmp_path, {}, lambda plan: streams[plan.rank])
    assert all(stream.closed for stream in streams)
    assert {"do": "kill"} in streams[0].heard and {"do": "go"} not in streams[0].heard


def test_a_host_that_cannot_be_reached_lets_go_of_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(remote_rank, "EXIT_TIMEOUT", 0.3)
    stream = Stream(READY)

    def opened(plan):
        if plan.rank:
            raise ClusterError("unreachable")
        return stream

    with pytest.raises(ClusterError, match="unreachable"):
        prepare_remote_ranks([plan(0), plan(1)], tmp_path, {}, opened)
    assert stream.closed and prepare_remote_ranks([], tmp_path, {}, opened) == []


def test_a_host_whose_name_is_a_path_has_its_log_in_the_folder(tmp_path):
    there = RankPlan(**{**plan().__dict__, "host": Host(name="../../up", ssh="x", ips=["10.0.0.1"])})
    (rank,) = prepare_remote_ranks([there], tmp_path / "logs", {}, lambda plan: Stream(READY, ends=True))
    assert Path(os.path.normpath(rank.log)).parent == tmp_path / "logs"
    rank.close()


def test_ctrl_c_while_a_host_does_not_answer(tmp_path):
    stop, begun = StopRequest(), time.monotonic()
    streams = [Stream(READY, ends=True), Stream(said("alive"))]
    threading.Timer(0.3, stop.ask).start()
    with pytest.raises(Interrupted, match="before all ranks were ready"):
        run_ranks(
            [plan(0), plan(1)],
            log_folder=tmp_path,
            on_event=lambda rank, event: None,
            open_stream=lambda plan: streams[plan.rank],
            stop=stop,
        )
    assert time.monotonic() - begun < 15 and all(stream.closed for stream in streams)


@pytest.mark.expensive
def test_interrupted_by_the_user_there(tmp_path):
    stop, stream = StopRequest(), Stream(READY)
    plain = stream.send

    def send(data):
        plain(data)
        if b"terminate" in data:
            event = {"event": "error", "message": "at step 3", "fix": "resume", "exit_code": 130}
            stream.pieces += [said("event", event=event), said("ended", returncode=130)]

    stream.send = send
    threading.Timer(0.3, stop.ask).start()
    ends = run_ranks(
        [plan()],
        log_folder=tmp_path,
        on_event=lambda rank, event: None,
        open_stream=lambda plan: stream,
        stop=stop,
    )
    assert isinstance(run_error(ends), Interrupted) and run_error(ends).message == "at step 3"

"""A rank's record: who writes what, and events and heartbeats that neither block nor break."""

from __future__ import annotations

import json
import os
import time

import pytest

from thunder.runs.records.run_record import RunRecord


@pytest.fixture
def pipe(tmp_path):
    """(record whose events go into a pipe, function that reads the events so far)."""
    out, into = os.pipe()
    os.set_blocking(out, False)
    left = bytearray()

    def read():
        try:
            while data := os.read(out, 1 << 16):
                left.extend(data)
        except BlockingIOError:
            pass
        *lines, rest = bytes(left).split(b"\n")
        left[:] = rest
        return [json.loads(line) for line in lines]

    record = RunRecord(tmp_path, events=into)
    yield record, read
    record._events = None
    for number in (out, into):
        try:
            os.close(number)
        except OSError:
            pass


@pytest.mark.parametrize(
    ("main", "variable", "is_primary"),
    [(True, None, True), (False, None, False), (False, "1", True), (True, "0", False)],
)
def test_the_primary_rank_is_the_first_rank_of_a_host(tmp_path, main, variable, is_primary):
    environ = {} if variable is None else {"THUNDER_IS_PRIMARY": variable}
    assert RunRecord.of_rank(tmp_path, main, environ).is_primary is is_primary


@pytest.mark.expensive
def test_beats_tell_phase_step_and_progress(pipe):
    record, read = pipe

    def beats(enough):
        """The beats that come until there are enough of them."""
        so_far, until = [], time.monotonic() + 60
        while not enough(so_far):
            assert time.monotonic() < until, so_far
            time.sleep(0.02)
            so_far += [event for event in read() if event["event"] == "beat"]
        return so_far

    record.phase("training", step=3)
    record.start_heartbeat(0.02)
    still = beats(lambda so_far: len(so_far) > 3)
    assert {event["progress"] for event in still} == {still[0]["progress"]}
    assert all((event["phase"], event["step"]) == ("training", 3) for event in still)
    counts = []
    for act in (
        lambda: record.event("step", step=4),
        lambda: record.phase("validating", step=4),
        record.progress,
        lambda: record.event("test", done=1, total=2),
        lambda: record.event("checkpoint", step=4),
    ):
        act()
        last = counts[-1] if counts else still[0]["progress"]
        counts.append(beats(lambda so_far, last=last: so_far and so_far[-1]["progress"] > last)[-1]["progress"])
    assert counts == [still[0]["progress"] + more for more in range(1, 6)]


def test_a_launcher_that_does_not_read_blocks_nobody_and_lines_stay_whole(pipe):
    record, read = pipe
    started = time.monotonic()
    for number in range(300):
        record.event("metrics", number=number, text="x" * 5000)  # far more than a pipe holds, and than PIPE_BUF
    assert time.monotonic() - started < 30
    first = read()
    assert [event["number"] for event in first] == list(range(len(first))) and 5 < len(first) < 300
    record.event("metrics", number=1000)
    record.event("metrics", number=1001)
    later = [event["number"] for event in read()]
    assert later[-2:] == [1000, 1001] and len(later) <= 3, "the line that was cut, then the new ones"


def test_a_launcher_that_is_gone_is_no_error(tmp_path):
    out, into = os.pipe()
    record = RunRecord(tmp_path, events=into)
    os.close(out)
    record.start_heartbeat(0.01)
    for _ in range(3):
        record.phase("training")
    os.close(into)
    record._events = into  # a descriptor that is no longer open
    record.event("step", step=1)
    assert record._events is None

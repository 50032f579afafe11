from pathlib import Path

import pytest

from thunder.cluster.ends import RankEnd, failure, last_lines
from thunder.errors import Interrupted, ResourceError, RunFailed, UsageError

LOST = "RuntimeError: [ring] connection to a peer was lost"
KEY_ERROR = "KeyError: 'messages'"


def end(rank, returncode, tail=(), **more):
    return RankEnd(
        rank, f"host{rank}", returncode, more.pop("first", False), tuple(tail), Path(f"/l/rank-{rank}.log"), **more
    )


def said(message, code=1, fix=""):
    return {"event": "error", "message": message, "fix": fix, "exit_code": code}


def test_all_well():
    assert failure([end(0, 0), end(1, 0)]) is None
    assert failure([end(0, 0, told_to_stop=True, interrupted=True)]) is None


STOP = {"told_to_stop": True}
ASKED = {"told_to_stop": True, "interrupted": True}


@pytest.mark.parametrize(
    "ends, rank",
    [
        pytest.param([end(0, -15, **STOP), end(1, 3, first=True)], 1, id="the other was only told to stop"),
        pytest.param([end(0, 1, [LOST], first=True), end(1, -9)], 1, id="a lost peer is a symptom"),
        pytest.param([end(0, 1, [LOST], first=True), end(1, 1, [KEY_ERROR])], 1, id="whichever ended first"),
        pytest.param([end(0, 1, [LOST], first=True), end(1, 1, [KEY_ERROR], **STOP)], 1, id="even told to stop"),
        pytest.param([end(0, 1, error=said(LOST), first=True), end(1, -9)], 1, id="the symptom as an event"),
        pytest.param([end(0, 1, [LOST]), end(1, 1, [LOST], first=True)], 1, id="symptoms alone: the first"),
        pytest.param([end(0, 2, [], first=True), end(1, 2)], 0, id="all alike: the first"),
        pytest.param([end(0, 1, [LOST], first=True), end(1, 0)], 0, id="the peer ended well, and too early"),
        pytest.param([end(0, 130, **ASKED), end(1, 1, [KEY_ERROR], **ASKED)], 1, id="a checkpoint that failed"),
        pytest.param([end(0, 1, ["[ring] Couldn't connect (error: 111)"], first=True), end(1, -11)], 1, id="no ring"),
    ],
)
def test_who_is_to_blame(ends, rank):
    error = failure(ends)
    assert error.message.startswith(f"rank {rank} on host{rank}")


def test_a_crash_shows_the_last_lines_and_the_log():
    error = failure([end(0, 1, ["Traceback ...", KEY_ERROR], first=True)])
    assert type(error) is RunFailed
    assert "ended with exit code 1; the last lines of its log:\n  | Traceback ...\n  | KeyError" in error.message
    assert error.fix == "read /l/rank-0.log"


@pytest.mark.parametrize(
    "returncode, manner",
    [(-9, "was killed by SIGKILL (often: out of memory)"), (-11, "was killed by SIGSEGV"), (-63, "signal 63")],
)
def test_a_signal_is_named(returncode, manner):
    error = failure([end(0, returncode, first=True)])
    assert manner in error.message
    assert "its log is empty" in error.message


@pytest.mark.parametrize(
    "code, kind", [(2, UsageError), (8, ResourceError), (130, Interrupted), (3, RunFailed), (1, RunFailed)]
)
def test_our_exit_codes_give_the_error_their_kind(code, kind):
    assert type(failure([end(0, code, first=True)])) is kind


def test_an_error_event_speaks_for_the_rank():
    error = failure([end(1, 8, ["noise"], first=True, error=said("out of memory at step 3", 8, "--batch-size 1"))])
    assert (error.exit_code, error.message) == (8, "rank 1 on host1: out of memory at step 3")
    assert error.fix == "--batch-size 1"


def test_an_error_event_of_a_bug_comes_with_its_traceback():
    error = failure([end(0, 1, ["Traceback ...", KEY_ERROR], first=True, error=said(KEY_ERROR))])
    assert error.message.startswith(f"rank 0 on host0: {KEY_ERROR}; it ended with exit code 1; the last lines")


@pytest.mark.parametrize("returncode", [130, -15, -9])
def test_a_stop_that_the_user_asked_for(returncode):
    error = failure([end(0, returncode, first=True, **ASKED), end(1, returncode, **ASKED)])
    assert isinstance(error, Interrupted)
    event = said("stopped at step 5, with a checkpoint", 130, "thunder resume latest")
    error = failure([end(0, 130, first=True, error=event, **ASKED)])
    assert error.message == "stopped at step 5, with a checkpoint"


TRACE = ["Traceback (most recent call last):", '  File "a.py", line 1, in f', "    g()", KEY_ERROR]


@pytest.mark.parametrize(
    "lines, count, expected",
    [
        ([], 3, []),
        (["a", "b"], 3, ["a", "b"]),
        (["a", "b", "c", "d"], 3, ["b", "c", "d"]),
        (["a", *TRACE, "b"], 4, [*TRACE[1:], "b"]),
        (["a", *TRACE, *"bcdefg"], 4, TRACE),
        ([*TRACE, "During handling", *TRACE, *"bcdefg"], 4, TRACE),
        (["a", "Traceback (most recent call last):"], 3, ["a", "Traceback (most recent call last):"]),
    ],
)
def test_the_last_lines_prefer_the_python_error(lines, count, expected):
    assert list(last_lines("\n".join(lines), count)) == expected

from dataclasses import replace
from pathlib import Path

import pytest

from thunder.cluster.ranks.exit_causes import ExitCause, RankEnd, find_exit_cause, log_tail, run_error
from thunder.errors import ClusterError, Interrupted, ResourceError, RunFailed, UsageError

LOST = "RuntimeError: [ring] connection to a peer was lost"
KEY_ERROR = "KeyError: 'messages'"


def end(rank, returncode, tail=(), **more):
    return RankEnd(
        rank, f"host{rank}", returncode, more.pop("first", False), tuple(tail), Path(f"/l/rank-{rank}.log"), **more
    )


def said(message, code=1, fix=""):
    return {"event": "error", "message": message, "fix": fix, "exit_code": code}


def test_all_well():
    assert run_error([end(0, 0), end(1, 0)]) is None
    assert run_error([end(0, 0, told_to_stop=True, interrupted=True)]) is None


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
    error = run_error(ends)
    assert error.message.startswith(f"rank {rank} on host{rank}")


def test_a_crash_shows_the_last_lines_and_the_log():
    error = run_error([end(0, 1, ["Traceback ...", KEY_ERROR], first=True)])
    assert type(error) is RunFailed
    assert "ended with exit code 1; the last lines of its log:\n  | Traceback ...\n  | KeyError" in error.message
    assert error.fix == "read /l/rank-0.log"


@pytest.mark.parametrize(
    "returncode, manner",
    [(-9, "was killed by SIGKILL (often: out of memory)"), (-11, "was killed by SIGSEGV"), (-63, "signal 63")],
)
def test_a_signal_is_named(returncode, manner):
    error = run_error([end(0, returncode, first=True)])
    assert manner in error.message
    assert "its log is empty" in error.message


@pytest.mark.parametrize(
    "code, kind", [(2, UsageError), (8, ResourceError), (130, Interrupted), (3, RunFailed), (1, RunFailed)]
)
def test_our_exit_codes_give_the_error_their_kind(code, kind):
    assert type(run_error([end(0, code, first=True)])) is kind


def test_an_error_event_speaks_for_the_rank():
    error = run_error([end(1, 8, ["noise"], first=True, error=said("out of memory at step 3", 8, "--batch-size 1"))])
    assert (error.exit_code, error.message) == (8, "rank 1 on host1: out of memory at step 3")
    assert error.fix == "--batch-size 1"


def test_an_error_event_of_a_bug_comes_with_its_traceback():
    error = run_error([end(0, 1, ["Traceback ...", KEY_ERROR], first=True, error=said(KEY_ERROR))])
    assert error.message.startswith(f"rank 0 on host0: {KEY_ERROR}; it ended with exit code 1; the last lines")


@pytest.mark.parametrize("returncode", [130, -15, -9])
def test_a_stop_that_the_user_asked_for(returncode):
    error = run_error([end(0, returncode, first=True, **ASKED), end(1, returncode, **ASKED)])
    assert isinstance(error, Interrupted)
    event = said("stopped at step 5, with a checkpoint", 130, "thunder resume latest")
    error = run_error([end(0, 130, first=True, error=event, **ASKED)])
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
    assert list(log_tail("\n".join(lines), count)) == expected


METAL = "[METAL] Command buffer execution failed: "
CAUSES = {
    "timeout": (end(0, -6, [METAL + "Caused GPU Timeout Error (00000002)"]), "gpu timeout"),
    "display": (end(0, -6, [METAL + "Impacting Interactivity (0000000e)"]), "gpu timeout"),
    "penalty box": (end(0, 1, ["kIOGPUCommandBufferCallbackErrorSubmissionsIgnored"]), "gpu timeout"),
    "memory of the GPU": (end(0, -6, [METAL + "Insufficient Memory (00000008)"]), "out of memory"),
    "allocator": (end(0, 1, ["RuntimeError: [metal::malloc] Attempting to allocate"]), "out of memory"),
    "memory as an event": (end(0, 1, error=said("MemoryError: ")), "out of memory"),
    "killed": (end(0, -9), "killed"),
    "crashed": (end(0, -11), "killed"),
    "own error": (end(0, 1, [KEY_ERROR]), "own error"),
    "own exit code": (end(0, 2, error=said("no rows", 2)), "own error"),
    "a lost peer": (end(0, 1, [LOST]), "peer lost"),
    "our cluster error": (end(0, 6, error=said("rank 1 is gone", 6)), "peer lost"),
    "joined too late": (end(0, 1, ["Timeout (0:01:00)!", "Thread 0x1"]), "peer lost"),
    "lost host": (end(0, -9, [METAL + "Insufficient Memory"], lost="nothing was heard"), "host lost"),
    "stalled": (end(0, -9, [LOST], stalled="made no progress", told_to_stop=True), "hang"),
    "stalled, and it says what of": (end(0, -9, ["Caused GPU Timeout"], stalled="no progress"), "hang"),
    "as asked": (end(0, -15, **ASKED), "interrupted"),
    "as asked, by its own hand": (end(0, 130, error=said("at step 3", 130)), "interrupted"),
    "stopped by us for another": (end(0, -15, **STOP), "peer lost"),
    "asked, but a checkpoint failed": (end(0, 1, ["OSError: no room"], **ASKED), "own error"),
}  # fmt: skip


@pytest.mark.parametrize("ended, kind", CAUSES.values(), ids=CAUSES)
def test_the_kind_of_a_cause(ended, kind):
    found = find_exit_cause([ended, end(1, 0)])
    assert (found.kind, found.rank, found.host) == (kind, 0, "host0")
    assert found.summary and "\n" not in found.summary


@pytest.mark.parametrize("symptom", [[LOST], ["[ring] Couldn't connect (error: 60)"], []])
@pytest.mark.parametrize("name", ["timeout", "memory of the GPU", "killed", "lost host", "stalled", "own error"])
@pytest.mark.parametrize("first", [True, False])
def test_the_rank_with_the_cause_is_found_beside_its_symptoms(symptom, name, first):
    more = {} if symptom else STOP
    beside = end(1, 1 if symptom else -15, symptom, first=first, **more)
    found = find_exit_cause([beside, replace(CAUSES[name][0], failed_first=not first)])
    assert (found.kind, found.host) == (CAUSES[name][1], "host0")


def test_too_much_for_the_gpu_comes_before_a_rank_that_crashed_of_it():
    found = find_exit_cause([end(0, -9, first=True), end(1, -6, [METAL + "Insufficient Memory"])])
    assert (found.kind, found.rank) == ("out of memory", 1)
    assert type(found.error) is ResourceError


def test_a_summary_is_a_line_whatever_the_error_says():
    assert ExitCause("peer lost", -1, "", ClusterError("")).summary == "peer lost"
    assert ExitCause("killed", 0, "a", RunFailed("one\ntwo")).summary == "one"
    assert find_exit_cause([end(0, 1, ["x"], first=True)]).summary == "rank 0 on host0 ended with exit code 1"


def test_a_rank_that_was_ended_before_it_could_save_points_to_resume():
    error = run_error([end(0, -15, **ASKED)])
    assert "rank 0 on host0 ended before it saved a checkpoint" == error.message and "resume" in error.fix

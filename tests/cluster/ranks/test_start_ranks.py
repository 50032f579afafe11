"""Real processes under the launcher: how they may end, and that none is left."""

import json
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from process_ranks import codes, started_ranks

from thunder.cluster.inventory import openblas
from thunder.cluster.ranks.start_ranks import StopRequest, run_error, run_ranks
from thunder.errors import ClusterError, Interrupted, RunFailed, UsageError

pytestmark = pytest.mark.expensive


ranks = pytest.fixture(started_ranks)


def test_all_ranks_end_well(ranks):
    ends = ranks.run("print('hello from', rank); tell(event='step', step=rank)", ranks=3)
    assert codes(ends) == [0, 0, 0]
    assert run_error(ends) is None
    assert not any(end.failed_first or end.told_to_stop or end.interrupted for end in ends)
    assert sorted(ranks.events, key=str) == [(rank, {"event": "step", "step": rank}) for rank in range(3)]
    assert [end.tail for end in ends] == [(f"hello from {rank}",) for rank in range(3)]
    assert (
        json.loads((ranks.folder / "run/hostfile.json").read_text())
        == [[address] for address in json.loads((ranks.folder / "run/hostfile.json").read_text())[0]]
        + json.loads((ranks.folder / "run/hostfile.json").read_text())[1:]
    )


def test_a_rank_that_fails_takes_the_others_with_it(ranks):
    started = time.monotonic()
    ends = ranks.run("if rank == 1:\n wait_for_mark(); sys.exit(3)\nstop_with(130); mark(); time.sleep(60)")
    assert codes(ends) == [130, 3]
    assert [end.failed_first for end in ends] == [False, True]
    assert [end.told_to_stop for end in ends] == [True, False]
    assert time.monotonic() - started < 40
    error = run_error(ends)
    assert type(error) is RunFailed and "rank 1 on local-1 ended with exit code 3" in error.message


def test_a_traceback_at_start_is_quoted(ranks):
    ends = ranks.run("import no_such_module", ranks=1)
    error = run_error(ends)
    assert codes(ends) == [1]
    assert "ModuleNotFoundError: No module named 'no_such_module'" in error.message
    assert error.fix == f"read {ranks.logs}/rank-0.log"


def test_a_rank_that_is_killed_is_named_with_its_signal(ranks):
    def on_event(rank, event):
        if rank == 1:
            os.kill(event["pid"], signal.SIGKILL)

    ends = ranks.run("tell(pid=os.getpid()); time.sleep(60)", on_event=on_event)
    assert codes(ends) == [-15, -9]
    assert "rank 1 on local-1 was killed by SIGKILL" in run_error(ends).message


def test_a_rank_that_ignores_sigterm_is_killed_after_the_grace(ranks):
    script = """
if rank == 1:
    wait_for_mark()
    sys.exit(4)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
mark()
time.sleep(60)
"""
    ends = ranks.run(script, grace=1)
    assert codes(ends) == [-9, 4]
    assert run_error(ends).exit_code == 4


def test_a_frozen_rank_is_killed_too(ranks):
    script = "if rank == 1:\n wait_for_mark(); sys.exit(3)\nmark(); os.kill(os.getpid(), signal.SIGSTOP)"
    ends = ranks.run(script, grace=0.5)
    assert codes(ends) == [-9, 3]


def test_a_rank_that_ends_early_and_well_does_not_stop_the_others(ranks):
    ends = ranks.run("time.sleep(1.5 * rank); tell(rank=rank)")
    assert codes(ends) == [0, 0]
    assert [event["rank"] for _, event in ranks.events] == [0, 1]


def test_the_cause_is_blamed_and_not_the_rank_that_lost_its_peer(ranks):
    script = """
if rank == 0:
    wait_for_mark()
    raise RuntimeError("[ring] connection to a peer was lost")
mark()
time.sleep(0.5)
raise KeyError("messages")
"""
    ends = ranks.run(script)
    assert [end.failed_first for end in ends] == [True, False]
    assert run_error(ends).message.startswith("rank 1 on local-1")
    assert "KeyError: 'messages'" in run_error(ends).message


def test_an_error_event_gives_text_and_exit_code(ranks):
    script = "tell(event='error', message='no rows left', fix='lower --max-seq-length', exit_code=2); os._exit(2)"
    error = run_error(ranks.run(script, ranks=1))
    assert isinstance(error, UsageError)
    assert (error.message, error.fix) == ("rank 0 on local-0: no rows left", "lower --max-seq-length")


def test_a_stop_from_another_thread(ranks):
    stop = StopRequest()
    ends = ranks.run("stop_with(130); tell(up=1); time.sleep(60)", on_event=lambda *_: stop.ask(), stop=stop)
    assert all(end.interrupted for end in ends)
    assert isinstance(run_error(ends), Interrupted)


def test_requests_at_the_same_moment_are_one():
    stop = StopRequest()
    stop.ask()
    stop.ask()
    assert stop.count == 1
    time.sleep(0.35)
    stop.ask()
    assert stop.count == 2


def test_it_runs_outside_the_main_thread_too(ranks):
    ends = []
    thread = threading.Thread(target=lambda: ends.extend(ranks.run("pass")))
    thread.start()
    thread.join()
    assert codes(ends) == [0, 0]


def test_an_error_in_the_callers_code_ends_the_ranks(ranks):
    def on_event(rank, event):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ranks.run("tell(up=1); time.sleep(60)", on_event=on_event)
    assert ranks.alive() == []


@pytest.mark.parametrize("missing", ["python", "folder"])
def test_a_program_that_is_not_there_starts_nothing(ranks, missing):
    good, bad = ranks.plans("time.sleep(60)")
    bad = replace(bad, argv=("/no/python",)) if missing == "python" else replace(bad, cwd=Path("/no/folder"))
    with pytest.raises(ClusterError, match="rank 1 on local-1 cannot be started: No such file or directory: /no/"):
        run_ranks([good, bad], log_folder=ranks.logs, on_event=print)
    assert ranks.alive() == []


def test_a_taken_port_starts_nothing(ranks):
    plans = ranks.plans("pass")
    ip, _, port = plans[1].address.partition(":")
    with socket.socket() as listener:
        listener.bind((ip, int(port)))
        listener.listen()
        with pytest.raises(ClusterError, match=f"port {port} on {ip} is taken by .*pid {os.getpid()}"):
            run_ranks(plans, log_folder=ranks.logs, on_event=print)
    assert list(ranks.logs.iterdir()) == []


def test_ctrl_c_once_lets_the_ranks_save(ranks):
    launcher = ranks.launcher("stop_with(130); tell(up=1); time.sleep(60)")
    # the terminal signals the whole foreground group
    os.killpg(launcher.pid, signal.SIGINT)
    out, _ = launcher.communicate(timeout=15)
    assert launcher.returncode == 130
    assert json.loads(out.splitlines()[-1]) == [[130, True], [130, True]]
    assert "keyboard" not in out, "the ranks hear of it from the launcher alone"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_or_a_closed_terminal_does_the_same(ranks, number):
    launcher = ranks.launcher("stop_with(130); tell(up=1); time.sleep(60)")
    launcher.send_signal(number)
    out, _ = launcher.communicate(timeout=15)
    assert json.loads(out.splitlines()[-1]) == [[130, True], [130, True]]


def test_ctrl_c_twice_ends_at_once(ranks):
    # straight to the pipe: a handler may come upon a buffered write that is not finished
    saving = "signal.signal(signal.SIGTERM, lambda *_: os.write(events.fileno(), b'{\"saving\": 1}\\n'))"
    script = saving + "; tell(up=1)\nwhile True: time.sleep(1)"
    launcher = ranks.launcher(script, grace=100)
    launcher.send_signal(signal.SIGINT)
    assert "saving" in launcher.stdout.readline()
    time.sleep(0.5)
    launcher.send_signal(signal.SIGINT)
    out, _ = launcher.communicate(timeout=10)
    assert json.loads(out.splitlines()[-1]) == [[-9, True], [-9, True]]
    assert launcher.returncode == 130


BUSY = {
    "asleep": "time.sleep(60)",
    "frozen": "events.close(); os.kill(os.getpid(), signal.SIGSTOP)",
    "holding the interpreter's lock": "sum(iter(int, 1))",
    "joining the ring": "sys.stdout.flush() if rank else __import__('mlx.core').core.distributed.init(strict=True, "
    "backend='ring')\ntime.sleep(60)",
}


@pytest.mark.parametrize("busy", BUSY.values(), ids=BUSY)
def test_no_rank_survives_a_launcher_that_is_killed(ranks, busy):
    script = "signal.signal(signal.SIGTERM, signal.SIG_IGN); subprocess.Popen(['sleep', '60']); tell(up=1); " + busy
    launcher = ranks.launcher(script)
    time.sleep(1)
    launcher.kill()
    launcher.communicate()
    ranks.wait_until_gone()


MLX_RANK = """
import mlx.core as mx
group = mx.distributed.init(strict=True, backend="ring")
total = mx.distributed.all_sum(mx.array([rank + 1.0]), group=group, stream=mx.cpu)
with open("/proc/self/maps") if sys.platform == "linux" else open(os.devnull) as maps:
    tell(rank=group.rank(), size=group.size(), total=total.item(), openblas="openblas" in maps.read())
"""


def test_two_real_ranks_add_up(ranks):
    pytest.importorskip("mlx.core")
    ends = ranks.run(MLX_RANK)
    assert codes(ends) == [0, 0], run_error(ends)
    blas = openblas.find_openblas(sys.platform.capitalize()) is not None
    assert sorted(ranks.events, key=lambda pair: pair[0]) == [
        (rank, {"rank": rank, "size": 2, "total": 3.0, "openblas": blas}) for rank in (0, 1)
    ]


def test_a_real_rank_that_dies_is_blamed_by_its_peer_which_waits_in_a_collective(ranks):
    pytest.importorskip("mlx.core")
    dies = MLX_RANK + "\nif rank == 1: raise ValueError('the cause')\n"
    dies += "mx.eval(mx.distributed.all_sum(mx.array([1.0]), group=group, stream=mx.cpu)); time.sleep(60)"
    ends = ranks.run(dies, grace=2)
    assert "ValueError: the cause" in run_error(ends).message
    assert run_error(ends).message.startswith("rank 1 on local-1 ended with exit code 1")

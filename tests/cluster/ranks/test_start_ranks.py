"""Real processes under the launcher: how they may end, and that none is left."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from thunder.cluster.inventory import openblas
from thunder.cluster.inventory.cluster_file import local_cluster
from thunder.cluster.inventory.ports import free_ports
from thunder.cluster.inventory.rank_plan import plan_ranks
from thunder.cluster.ranks.start_ranks import StopRequest, run_error, run_ranks
from thunder.errors import ClusterError, Interrupted, RunFailed, UsageError

pytestmark = pytest.mark.expensive

RANK_STARTS = """
import json, os, signal, subprocess, sys, time
from thunder.cluster.ranks import orphan_guard
orphan_guard.watch_launcher()
rank = int(os.environ["THUNDER_RANK"])
events = os.fdopen(int(os.environ["THUNDER_EVENTS_FD"]), "w", buffering=1)
def tell(**event):
    events.write(json.dumps(event) + "\\n")
def mark():
    open(__file__ + ".ready", "w").close()
def wait_for_mark():
    while not os.path.exists(__file__ + ".ready"):
        time.sleep(0.02)
def stop_with(code):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(code))
    signal.signal(signal.SIGINT, lambda *_: os.write(events.fileno(), b'{"event": "keyboard"}\\n'))
"""

LAUNCHER = """
import json, sys
from pathlib import Path
from thunder.cluster.ranks.start_ranks import run_error, run_ranks
from thunder.cluster.inventory.rank_plan import RankPlan
from thunder.cluster.inventory.cluster_file import Host
plans = [RankPlan(**{**each, "host": Host(**each["host"])}) for each in json.loads(Path(sys.argv[1]).read_text())]
def show(rank, event):
    print(json.dumps([rank, event]), flush=True)
ends = run_ranks(plans, log_folder=Path(sys.argv[2]), on_event=show, grace=float(sys.argv[3]))
error = run_error(ends)
print(json.dumps([[end.returncode, end.interrupted] for end in ends]), flush=True)
sys.exit(error.exit_code if error else 0)
"""


class Ranks:
    """Ranks of one script; knows their processes by the job's id, which all of them and their children carry."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.logs = folder, folder / "logs"
        self.job = secrets.token_hex(8)
        self.events: list[tuple[int, dict]] = []
        self.launchers: list[subprocess.Popen] = []

    def plans(self, script: str, ranks: int = 2):
        path = self.folder / "rank.py"
        path.write_text(RANK_STARTS + script, encoding="utf-8")
        return plan_ranks(
            local_cluster(ranks),
            command=(sys.executable, str(path)),
            ports=free_ports(ranks),
            job_id=self.job,
            run_folder=self.folder / "run",
            cores=ranks,
            openblas=openblas.find_openblas(sys.platform.capitalize()),
            system=sys.platform.capitalize(),
            user_environ=os.environ,
        )

    def run(self, script: str, ranks: int = 2, grace: float = 10, on_event=None, **more):
        environ = os.environ
        return run_ranks(
            self.plans(script, ranks),
            log_folder=self.logs,
            on_event=on_event or (lambda rank, event: self.events.append((rank, event))),
            grace=grace,
            environ=environ,
            **more,
        )

    def launcher(self, script: str, ranks: int = 2, grace: float = 10) -> subprocess.Popen:
        """The same in a process of its own, which shows events on stdout; back once every rank has said it is up."""
        plans = [
            {"rank": plan.rank, "host": plan.host.resolved(), "argv": plan.argv, "env": plan.env, "cwd": None,
             "addresses": plan.addresses, "run_folder": plan.run_folder}
            for plan in self.plans(script, ranks)
        ]  # fmt: skip
        path = self.folder / "plans.json"
        path.write_text(json.dumps(plans), encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(path), str(self.logs), str(grace)],
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
            env=os.environ,
        )
        self.launchers.append(process)
        for _ in range(ranks):
            assert "up" in process.stdout.readline()
        return process

    def alive(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("THUNDER_JOB_ID") == self.job:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def wait_until_gone(self, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while self.alive():
            assert time.monotonic() < until, f"left over: {self.alive()}"
            time.sleep(0.05)


@pytest.fixture
def ranks(tmp_path):
    """Ranks that must leave no process, no open file and no signal handler behind."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    open_files = psutil.Process().num_fds()
    ranks = Ranks(tmp_path)
    yield ranks
    try:
        ranks.wait_until_gone()
    finally:
        for process in [*ranks.alive(), *ranks.launchers]:
            process.kill()
        for launcher in ranks.launchers:
            launcher.wait()
            launcher.stdout.close()
    assert psutil.Process().num_fds() <= open_files
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers


def codes(ends):
    return [end.returncode for end in ends]


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


def test_stdin_is_empty_and_the_log_holds_both_streams(ranks):
    (end,) = ranks.run("print('read', repr(sys.stdin.read())); print('oops', file=sys.stderr)", ranks=1)
    assert end.tail == ("read ''", "oops")
    assert not (ranks.folder / "run/hostfile.json").exists(), "a world of one has no ring"


def test_a_second_start_appends_to_the_logs_and_quotes_its_own_lines_only(ranks):
    ranks.run("print('one')", ranks=1)
    (end,) = ranks.run("print('two')", ranks=1)
    assert end.tail == ("two",)
    assert end.log.read_text() == "one\ntwo\n"


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


def test_events_come_whole_however_they_were_written(ranks):
    script = """
events.flush()
out = events.fileno()
for part in (b'{"event": "a", "text": "\\xdf', b'\\x8a"}', b'\\n{"event"', b': "b"}\\n\\n{"event": "c"}'):
    os.write(out, part)
    time.sleep(0.05)
"""
    ends = ranks.run(script, ranks=1)
    assert ranks.events == [(0, {"event": "a", "text": "ߊ"}), (0, {"event": "b"}), (0, {"event": "c"})]
    assert ends[0].malformed_events == 0


def test_malformed_events_are_counted_and_logged(ranks, caplog):
    script = """
out = events.fileno()
os.write(out, b'hello\\n[1]\\n{"event": "a"}\\n\\xff\\n' + b'x' * 3_000_000 + b'\\n{"event": "b"}\\n{"torn": ')
"""
    ends = ranks.run(script, ranks=1)
    assert codes(ends) == [0]
    assert ranks.events == [(0, {"event": "a"}), (0, {"event": "b"})]
    assert ends[0].malformed_events >= 5
    assert "rank 0 sent an event that is not a JSON object: b'hello'" in caplog.text


def test_events_are_not_lost_when_a_rank_dies_right_after_them(ranks):
    ranks.run("[tell(n=n, pad='x' * 100) for n in range(5000)]; os._exit(0)")
    assert [event["n"] for rank, event in ranks.events if rank == 0] == list(range(5000))


def test_a_rank_that_floods_its_log_neither_stalls_nor_hides_its_error(ranks):
    script = """
sys.stdout.flush()
print("Traceback (most recent call last):\\n  File 'x'\\nValueError: the cause")
for _ in range(200):
    os.write(1, b"noise " * 10_000 + b"\\n")
print("Traceback (most recent call last):\\n  File 'x'\\nValueError: the last one", flush=True)
for n in range(100):
    print("after", n)
sys.exit(1)
"""
    lines = []
    (end,) = ranks.run(script, ranks=1, on_line=lambda rank, line: lines.append(line))
    assert end.log.stat().st_size > 12_000_000
    assert end.tail[-1] == "ValueError: the last one"
    assert len(end.tail) <= 15
    assert lines[-1] == "after 99"
    assert any("bytes left out" in line for line in lines)


def test_lines_of_the_logs_are_passed_on(ranks):
    lines = []
    script = "print('a\\u07ca', flush=True); time.sleep(0.3); print(rank, end='')"
    ranks.run(script, on_line=lambda rank, line: lines.append((rank, line)))
    assert sorted(lines) == [(0, "0"), (0, "aߊ"), (1, "1"), (1, "aߊ")]


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


def test_what_a_rank_left_running_ends_with_it(ranks):
    assert codes(ranks.run("subprocess.Popen(['sleep', '60'])")) == [0, 0]
    ranks.wait_until_gone()


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

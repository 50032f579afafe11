"""Ranks as real processes for tests of the launcher; none may be left behind."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from thunder.cluster.inventory import openblas
from thunder.cluster.inventory.cluster_file import local_cluster
from thunder.cluster.inventory.ports import free_ports
from thunder.cluster.inventory.rank_plan import plan_ranks
from thunder.cluster.ranks.start_ranks import run_ranks

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


def started_ranks(tmp_path):
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

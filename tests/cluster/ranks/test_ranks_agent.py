"""A real agent in a process of its own, over pipes: launchers that leave, freeze or talk nonsense, ranks that flood."""

import json
import os
import secrets
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from thunder.cluster.inventory.cluster_file import Host
from thunder.cluster.inventory.ports import free_ports
from thunder.cluster.inventory.rank_plan import RankPlan
from thunder.cluster.ranks.exit_causes import find_exit_cause
from thunder.cluster.ranks.protocol import MESSAGE_PREFIX, PROTOCOL, MessageReader, encode_message
from thunder.cluster.ranks.start_ranks import StopRequest, run_error, run_ranks
from thunder.cluster.ranks.watchdog import Deadlines
from thunder.config import REPOSITORY
from thunder.digest import sha256_file
from thunder.errors import ClusterError, Interrupted, UsageError

pytestmark = pytest.mark.expensive

AGENT = """
import sys
from thunder.cluster.ranks import agent
sys.executable, agent.SILENCE_TIMEOUT = sys.argv[1], float(sys.argv[2])
sys.exit(agent.serve_rank(0, 1))
"""
RANK_STARTS = """
import json, os, signal, subprocess, sys, time
folder = sys.argv[5]
events = int(os.environ["THUNDER_EVENTS_FD"])
def tell(**event):
    os.write(events, json.dumps(event).encode() + b"\\n")
"""


class Launcher:
    """The other end of an agent's stdin and stdout. Ranks carry the job's id, by which their processes are found."""

    def __init__(self, folder: Path, script: str, silence: float = 20) -> None:
        self.folder, self.job = folder / "far" / "run", secrets.token_hex(8)
        (folder / "rank.py").write_text(RANK_STARTS + script, encoding="utf-8")
        (folder / "agent.py").write_text(AGENT, encoding="utf-8")
        # what the agent takes for its own interpreter
        python = folder / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} {folder}/rank.py "$@"\n', encoding="utf-8")
        python.chmod(0o755)
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(folder / "agent.py"), str(python), str(silence)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            env=os.environ | {"THUNDER_JOB_ID": self.job},
        )
        self.reader, self.heard = MessageReader(MESSAGE_PREFIX), []

    def send(self, *raw: bytes, **message) -> None:
        for data in raw or (encode_message(message),):
            self.process.stdin.write(data)

    def request(self, **changed) -> dict:
        folder = str(changed.get("folder", self.folder))
        asked = {
            "protocol": PROTOCOL,
            "rank": 0,
            "host": "Mac4",
            "folder": folder,
            "argv": ["python3", "-P", "-m", "thunder", "rank", folder, "--job", "train"],
            "env": {"THUNDER_JOB_ID": self.job, "WHERE": f"{folder}/x"},
            "addresses": [f"127.0.0.1:{free_ports(1)[0]}"],
            "files": {"config.yaml": "a: ߊ\n"},
        }
        return {**asked, **changed}

    def until(self, say: str, seconds: float = 15) -> dict:
        """The next message of a kind; what came before it stays in `heard`."""
        until = time.monotonic() + seconds
        while True:
            for number, message in enumerate(self.heard):
                if message["say"] == say:
                    del self.heard[number]
                    return message
            assert select.select([self.process.stdout], [], [], until - time.monotonic())[0], f"no {say}: {self.heard}"
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            assert data, f"the agent ended without {say}: {self.heard}, {self.reader.last_unmarked_line}"
            self.heard += self.reader.feed(data)

    def start(self, **changed) -> dict:
        self.send(**self.request(**changed))
        ready = self.until("ready")
        self.send(do="go")
        return ready

    def alive(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != self.process.pid and process.environ().get("THUNDER_JOB_ID") == self.job:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def gone(self, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while self.alive():
            assert time.monotonic() < until, f"left over: {self.alive()}"
            time.sleep(0.05)


@pytest.fixture
def launcher(tmp_path):
    """Starts agents; none of them, and none of their ranks, may be left at the end."""
    started = []

    def start(script: str = "", **more) -> Launcher:
        started.append(Launcher(tmp_path, script, **more))
        return started[-1]

    yield start
    try:
        for each in started:
            each.process.stdin.close()
            each.process.stdout.close()
            each.process.wait(10)
            each.gone()
    finally:
        for each in started:
            for process in [*each.alive(), each.process]:
                process.kill()
            each.process.wait()


def test_a_rank_runs_and_all_of_it_arrives(launcher, tmp_path):
    far = launcher("""
print("hello", os.environ["WHERE"], sys.argv[6:], os.getcwd())
tell(event="step", step=3, text="\\ud800 \\u07ca")
os.makedirs(folder + "/adapters"), os.makedirs(folder + "/checkpoints")
for name in ("adapters/a.bin", "checkpoints/c", ".hidden", "metrics.jsonl"):
    open(folder + "/" + name, "w").write(name)
sys.exit(3)
""")
    ready = far.start()
    ended = far.until("ended")
    assert ready["folder"] == str(far.folder) and ready["pid"] == far.process.pid
    assert ended["returncode"] == 3 and ended["malformed_events"] == 0
    said = f"hello {far.folder}/x ['--job', 'train'] {REPOSITORY}"
    assert ended["tail"] == [said] and far.until("log")["text"] == said
    assert far.until("event")["event"] == {"event": "step", "step": 3, "text": "\ud800 ߊ"}
    assert (far.folder / "config.yaml").read_text(encoding="utf-8") == "a: ߊ\n"
    made = {name: sha256_file(far.folder / name) for name in ("adapters/a.bin", "metrics.jsonl")}
    assert ended["left"] == made, "not its checkpoints, logs, locks, nor what the launcher sent"
    assert far.process.wait(5) == 0


def test_only_rank_0_says_what_it_left(launcher):
    far = launcher("open(folder + '/made', 'w').close()")
    far.start(rank=1)
    assert far.until("ended")["left"] == {}


@pytest.mark.parametrize("existed", [False, True])
def test_a_passing_run_removes_the_folder_that_it_made_and_no_other(launcher, existed):
    far = launcher("tell(event='smoke')")
    if existed:
        far.folder.mkdir(parents=True)
        (far.folder / "precious").write_text("x")
    far.start(transient=True)
    assert far.until("ended")["returncode"] == 0
    far.process.wait(5)
    assert far.folder.exists() == existed and (not existed or (far.folder / "precious").exists())


def test_a_passing_run_removes_its_folder_though_the_launcher_left(launcher):
    far = launcher("time.sleep(60)")
    far.start(transient=True)
    far.process.stdin.close()
    assert far.process.wait(10) == 1 and not far.folder.exists()


CHILDREN = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "60"])
tell(event="up")
time.sleep(60)
"""


def test_the_end_of_the_channel_is_the_end_of_the_rank_and_its_children(launcher):
    far = launcher(CHILDREN)
    far.start()
    far.until("event")
    assert len(far.alive()) >= 2
    far.process.stdin.close()
    assert far.process.wait(10) == 1
    far.gone()


def test_an_agent_that_is_killed_takes_its_rank_with_it(launcher):
    far = launcher(CHILDREN)
    far.start()
    far.until("event")
    far.process.kill()
    far.gone()


@pytest.mark.parametrize("stage", ["before the request", "before go", "while the rank runs"])
def test_a_launcher_that_falls_silent_is_taken_to_be_gone(launcher, stage):
    far = launcher(CHILDREN, silence=2)
    if stage == "before go":
        far.send(**far.request())
        far.until("ready")
    elif stage == "while the rank runs":
        far.start()
        far.until("event")
    begun = time.monotonic()
    assert far.process.wait(60) == 1
    assert 1 < time.monotonic() - begun < 30
    far.gone()


def test_a_ping_now_and_then_keeps_the_rank(launcher):
    far = launcher("time.sleep(5); tell(event='done')", silence=3)
    far.start()
    for _ in range(16):
        far.send(do="ping")
        time.sleep(0.25)
    assert far.until("event")["event"] == {"event": "done"} and far.until("ended")["returncode"] == 0


def test_a_launcher_that_does_not_read_slows_nobody_down(launcher, tmp_path):
    far = launcher(f"""
for n in range(300):
    print("x" * 100_000, flush=True)
    os.write(events, b"[" * 100_000 + b"\\n")
    tell(event="metrics", step=n, pad="y" * 100_000)
    tell(event="beat")
open({str(tmp_path / "done")!r}, "w").close()
time.sleep(60)
""")
    far.start()
    until = time.monotonic() + 20
    while not (tmp_path / "done").exists():
        assert time.monotonic() < until, "the rank waits for a launcher that does not read"
        far.send(do="ping")
        time.sleep(0.1)
    assert psutil.Process(far.process.pid).memory_info().rss < 250 << 20
    far.send(do="kill")
    ended = far.until("ended")
    assert ended["returncode"] == -9 and ended["malformed_events"] == 300


def test_a_rank_that_floods_its_log_and_its_events_is_followed_to_its_end(launcher):
    far = launcher("""
os.write(1, b"x" * 10_000_000)
os.write(events, b"z" * 10_000_000 + b"\\n")
tell(event="still here")
os.write(1, b"\\nlast words\\n")
""")
    far.start()
    assert far.until("event")["event"] == {"event": "still here"}
    ended = far.until("ended")
    assert ended["returncode"] == 0 and ended["malformed_events"] > 0
    assert ended["tail"][-1] == "last words" and all(len(text) <= 4000 for text in ended["tail"])
    logged = [message["text"] for message in far.heard if message["say"] == "log"]
    assert logged[-1] == "last words" and all(len(text) <= 4000 for text in logged)
    assert far.reader.malformed == 0


ORDERS = """
signal.signal(signal.SIGTERM, lambda *_: (tell(event="saved"), os._exit(130)))
signal.signal(signal.SIGUSR1, lambda *_: tell(event="dumped"))
tell(event="up")
while True: time.sleep(1)
"""


def test_orders_reach_the_rank_and_nonsense_between_them_does_not(launcher):
    far = launcher(ORDERS)
    far.start()
    assert far.until("event")["event"]["event"] == "up"
    far.send(b"garbage\n[1]\n\xff\xfe\n" + b"[" * 200_000 + b"\n", b"x" * 10_000_000 + b"\n")
    for do in ("dance", None, 7, ["kill"], {"kill": 1}):
        far.send(do=do)
    far.send(do="dump")
    assert far.until("event")["event"]["event"] == "dumped"
    far.send(do="terminate")
    assert far.until("event")["event"]["event"] == "saved" and far.until("ended")["returncode"] == 130


@pytest.mark.parametrize("order", ["terminate", "kill"])
def test_called_off_before_it_began(launcher, order):
    far = launcher("open(folder + '/ran', 'w').close()")
    far.send(**far.request())
    far.until("ready")
    far.send(do=order)
    assert far.process.wait(5) == 0 and not (far.folder / "ran").exists()


def test_a_request_that_cannot_be_used_is_refused_and_nothing_is_started_or_written(launcher):
    far = launcher()
    far.send(**far.request(argv=["sh", "-c", "touch x"]))
    refused = far.until("refused")
    assert "the agent starts only ranks" in refused["message"] and refused["exit_code"] == UsageError.exit_code
    assert far.process.wait(5) == UsageError.exit_code and not far.folder.exists()


def test_an_order_in_place_of_a_request_is_refused(launcher):
    far = launcher()
    far.send(b"noise of a shell\n")
    far.send(do="ping")
    far.send(do="go")
    assert "a request it cannot use" in far.until("refused")["message"]


def test_half_characters_in_a_file_are_refused(launcher):
    far = launcher()
    far.send(**far.request(files={"plan.json": "\ud800"}))
    refused = far.until("refused")
    assert "cannot be made or written" in refused["message"] and refused["exit_code"] == ClusterError.exit_code


@pytest.mark.parametrize("folder", ["/dev/null/runs/a", "~no-such-user-here/runs"])
def test_a_folder_that_cannot_be_made_is_refused(launcher, folder):
    far = launcher()
    far.send(**far.request(folder=folder))
    refused = far.until("refused")
    assert f"Mac4: {folder} cannot be made or written: " in refused["message"] and "`runs`" in refused["fix"]
    assert refused["exit_code"] == ClusterError.exit_code


def test_a_port_that_is_taken_is_refused(launcher):
    far = launcher()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        far.send(**far.request(addresses=[f"127.0.0.1:{listener.getsockname()[1]}"]))
        refused = far.until("refused")
    assert "is taken" in refused["message"] and refused["exit_code"] == ClusterError.exit_code


def test_an_interpreter_that_is_gone_is_refused(launcher, tmp_path):
    far = launcher()
    far.send(**far.request())
    far.until("ready")
    (tmp_path / "python").unlink()
    far.send(do="go")
    refused = far.until("refused")
    assert "cannot be started" in refused["message"] and refused["exit_code"] == ClusterError.exit_code


def test_an_agent_waits_for_the_rank_that_an_earlier_one_is_ending(launcher):
    first = launcher("tell(event='up'); time.sleep(60)")
    first.start()
    first.until("event")
    second = launcher("tell(event='second')")
    second.send(**second.request())
    time.sleep(1)
    assert second.process.poll() is None and not select.select([second.process.stdout], [], [], 0)[0]
    first.process.stdin.close()
    second.until("ready")
    second.send(do="go")
    assert second.until("event")["event"] == {"event": "second"}


def test_a_log_that_is_gone_at_the_end_is_named(launcher):
    far = launcher("import shutil; shutil.rmtree(folder); sys.exit(1)")
    far.start()
    assert "rank-0.log" in far.until("refused")["message"]


class PipeStream:
    """What an ssh channel is to the launcher, to an agent on this machine."""

    def __init__(self, far: Launcher) -> None:
        self.far, self.process = far, far.process
        os.set_blocking(self.process.stdout.fileno(), False)

    def fileno(self):
        return self.process.stdout.fileno()

    def receive(self):
        try:
            return os.read(self.fileno(), 1 << 16)
        except BlockingIOError:
            return None

    def send(self, data):
        self.process.stdin.write(data)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()


class Desk:
    """A launcher with an agent for each of its ranks."""

    def __init__(self, launcher, tmp_path, script, ranks=2):
        self.logs, self.events = tmp_path / "logs", []
        self.agents = [launcher(script) for _ in range(ranks)]
        self.plans = []
        for number, agent in enumerate(self.agents):
            folder = f"{agent.folder}-{number}"
            said = {key: value for key, value in agent.request(folder=folder).items() if key in ("argv", "env")}
            self.plans.append(
                RankPlan(
                    rank=number,
                    host=Host(name=f"Mac{number}", ssh=f"mac{number}", ips=["127.0.0.1"]),
                    argv=tuple(said["argv"]),
                    env=said["env"] | {"RANK": str(number)},
                    cwd=None,
                    addresses=(f"127.0.0.1:{free_ports(1)[0]}",),
                    run_folder=folder,
                )
            )

    def run(self, on_event=lambda rank, event: None, **more):
        return run_ranks(
            self.plans,
            log_folder=self.logs,
            on_event=lambda rank, event: (self.events.append((rank, event)), on_event(rank, event)),
            open_stream=lambda plan: PipeStream(self.agents[plan.rank]),
            files={"config.yaml": "a: 1"},
            **more,
        )


def test_ranks_on_two_hosts_from_one_launcher(launcher, tmp_path):
    desk = Desk(launcher, tmp_path, "print(open(folder + '/hostfile.json').read()); tell(rank=os.environ['RANK'])")
    ends = desk.run()
    assert [end.returncode for end in ends] == [0, 0] and run_error(ends) is None
    assert sorted(event["rank"] for _, event in desk.events) == ["0", "1"]
    assert json.loads(ends[0].tail[0]) == [list(plan.addresses) for plan in desk.plans]
    assert (desk.logs / "Mac1-rank-1.log").read_text() == (desk.logs / "Mac0-rank-0.log").read_text()


def test_an_agent_that_is_killed_is_a_host_that_is_lost(launcher, tmp_path):
    desk = Desk(launcher, tmp_path, "tell(event='up'); time.sleep(60)")
    ends = desk.run(on_event=lambda rank, event: rank and desk.agents[1].process.kill())
    assert (find_exit_cause(ends).kind, find_exit_cause(ends).host) == ("host lost", "Mac1")
    assert ends[0].told_to_stop and ends[0].lost == ""


def test_a_rank_that_fails_there_takes_the_others_with_it(launcher, tmp_path):
    desk = Desk(launcher, tmp_path, "if os.environ['RANK'] == '0':\n time.sleep(60)\nraise KeyError('messages')")
    ends = desk.run()
    assert "rank 1 on Mac1 ended with exit code 1" in run_error(ends).message
    assert "KeyError: 'messages'" in run_error(ends).message


def test_a_rank_that_is_frozen_there_is_named(launcher, tmp_path):
    script = "tell(event='phase', phase='training')\nif os.environ['RANK'] == '1':\n os.kill(os.getpid(), 19)\n"
    script += "while True:\n tell(event='beat', progress=time.time())\n time.sleep(0.2)"
    ends = Desk(launcher, tmp_path, script).run(deadlines=Deadlines.every(2))
    assert (
        "no heartbeat" in ends[1].stalled
        and find_exit_cause(ends).kind == "hang"
        and find_exit_cause(ends).host == "Mac1"
    )


def test_stopping_lets_the_ranks_there_save(launcher, tmp_path):
    stop = StopRequest()
    desk = Desk(launcher, tmp_path, ORDERS)
    ends = desk.run(on_event=lambda rank, event: event["event"] == "up" and rank and stop.ask(), stop=stop)
    assert isinstance(run_error(ends), Interrupted)
    assert ends[1].returncode == 130 and (1, {"event": "saved"}) in desk.events

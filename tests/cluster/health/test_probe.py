import ast
import json
import subprocess
import sys
import threading
import time

import pytest

from thunder.cluster.health import cluster_status, host_report, probe, probe_program
from thunder.cluster.inventory.cluster_file import Cluster, Host, local_cluster
from thunder.cluster.ssh import client
from thunder.units import Seconds


@pytest.mark.parametrize("question", ["ports", "send"])
def test_the_program_is_plain_python_39(question):
    tree = ast.parse(probe.probe_source(question), feature_version=(3, 9))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names <= sys.stdlib_module_names | {"__future__", "importlib"}


def test_the_program_answers_by_itself():
    done = subprocess.run(
        [sys.executable, "-I", "-", "ports", json.dumps({"ips": ["127.0.0.1", "192.0.2.77"], "wanted": [20001]})],
        input=probe.probe_source("ports"),
        capture_output=True,
        text=True,
        timeout=30,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(probe_program.ANSWER_PREFIX)]
    assert "assign" in json.loads(line.removeprefix(probe_program.ANSWER_PREFIX))["20001"], (
        "one of two addresses is not here"
    )


@pytest.mark.expensive
def test_a_local_cluster_is_healthy_but_for_what_this_machine_lacks():
    said = cluster_status.check_cluster(local_cluster(2))
    assert [
        each["found"] for each in said["findings"] if each["state"] == "failure" and "stale" not in each["check"]
    ] == []
    assert [each["own_interface"] == each["interface"] for each in said["links"]] == [True, True]
    assert json.loads(json.dumps(said)) == said


class Fake:
    """A connection that answers as told."""

    def __init__(self, completed=None, wait=None):
        self.completed, self.wait, self.argv = completed, wait, []

    def run(self, argv, timeout, stdin=""):
        self.argv.append(argv)
        if self.wait:
            self.wait.wait(60)
        return self.completed

    def close(self):
        pass


FAR = Cluster(
    name="far", hosts=[Host(name=n, ssh=n, ips=[f"10.0.5.{n[-1]}"], python="~/t/python") for n in ("m4", "m5")]
)


def answered(text, code=0, errors=""):
    return probe.ask_host(Fake(client.CommandResult(code, text, errors)), "python", "clock", {}, Seconds(1))


def test_what_a_login_shell_prints_is_no_answer():
    assert answered(f"Welcome!\n{probe_program.ANSWER_PREFIX}1.5\n") == 1.5
    with pytest.raises(probe.QuestionFailed, match="nothing was printed"):
        answered("Welcome!")
    with pytest.raises(probe.QuestionFailed, match="does not fit the question"):
        answered(f"{probe_program.ANSWER_PREFIX}oh")


def test_no_python_there():
    with pytest.raises(probe.QuestionFailed) as caught:
        answered("", 127, "bash: t/python: No such file or directory\n")
    assert caught.value.reach.kind == "no python"


@pytest.mark.parametrize(
    "host, python",
    [
        ({"python": "~/tt/.venv/bin/python"}, "tt/.venv/bin/python"),
        ({"folder": "~/tt/"}, "tt/.venv/bin/python"),
        ({"folder": "/opt/tt"}, "/opt/tt/.venv/bin/python"),
        ({}, "python3"),
    ],
)
def test_which_python_is_asked(host, python):
    assert probe.host_python(Host(name="a", ssh="a", ips=["10.0.5.1"], **host)) == python


@pytest.mark.parametrize("stage", ["connect", "answer"])
def test_a_host_that_hangs_does_not_hang_us(stage):
    never = threading.Event()

    def connect(host):
        if stage == "connect":
            never.wait(60)
        return Fake(wait=never)

    begun = time.monotonic()
    read = probe.probe_hosts(FAR, [20001], Seconds(0.5), connect)
    assert time.monotonic() - begun < 30
    never.set()
    if stage == "connect":
        assert [each.reach.kind for each in read] == ["unreachable"] * 2
    else:
        assert all("not answered in time" in each.unanswered.values() for each in read)


def test_a_host_that_ssh_refuses():
    def connect(host):
        raise client.SshError("unknown key", "why", "ssh-keyscan")

    assert [each.reach for each in probe.probe_hosts(FAR, connect=connect)] == [
        host_report.ConnectionFailure("unknown key", "why", "ssh-keyscan")
    ] * 2


def test_garbage_from_a_host_is_said_to_be_that():
    fake = Fake(client.CommandResult(0, f"{probe_program.ANSWER_PREFIX}[1]\n", ""))
    read = probe.probe_hosts(FAR, connect=lambda host: fake)
    assert all("does not fit the question" in " ".join(each.unanswered.values()) for each in read)


def test_each_host_is_asked_for_its_own_ports():
    fakes = {host.name: Fake(client.CommandResult(1, "", "no")) for host in FAR.hosts}
    probe.probe_hosts(FAR, {"m4": [20001], "m5": [20002]}, Seconds(5), lambda host: fakes[host.name])
    asked = {
        name: [json.loads(argv[-1])["wanted"] for argv in fake.argv if argv[3] == "ports"]
        for name, fake in fakes.items()
    }
    assert asked == {"m4": [[20001]], "m5": [[20002]]}


@pytest.mark.expensive
@pytest.mark.parametrize("silent", ["send", "receive"])
def test_a_measurement_that_hangs_does_not_hang_us(silent):
    """The hosts answer pings, and one end of the measurement never says anything: a warning, in time."""
    never = threading.Event()
    answers = {
        "ping": {"installed": True, "sent": 3, "received": 3, "least": 0.3, "mean": 0.3, "fault": None},
        "tcp": {"answered": True, "milliseconds": 0.3, "fault": None},
        "send": {"bytes_per_second": None, "fault": None},
        "receive": {"bytes_per_second": 1e9, "fault": None},
    }

    class Answering(Fake):
        def run(self, argv, timeout, stdin=""):
            if argv[3] == silent:
                never.wait(60)
            answer = answers.get(argv[3])
            return client.CommandResult(0, f"{probe_program.ANSWER_PREFIX}{json.dumps(answer)}" if answer else "", "")

    begun = time.monotonic()
    read = probe.probe_hosts(FAR, (), Seconds(1), lambda host: Answering())
    assert time.monotonic() - begun < 30
    never.set()
    assert [[link.throughput for link in each.links] for each in read] == [
        [host_report.Throughput(None, "not measured in time")]
    ] * 2
    assert all(link.ping.received == 3 for each in read for link in each.links), "what was answered counts"

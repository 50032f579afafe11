import json
import shlex
import threading
import time
from dataclasses import replace

import pytest
from host_surveys import CLUSTER, HOSTS

from thunder.cluster.health import job_survey
from thunder.cluster.health.finding import Finding
from thunder.cluster.health.host_report import SURVEY_PREFIX, ConnectionFailure
from thunder.cluster.health.job_consistency import survey_findings
from thunder.cluster.inventory.cluster_file import Cluster, Host, local_cluster
from thunder.cluster.ssh import client
from thunder.units import Seconds

REQUEST = {"job": "train", "settings": {"data": "data/ߒߞߏ"}, "ranks": 2}


class Fake:
    """A connection that answers as told."""

    def __init__(self, completed=None, wait=None):
        self.completed, self.wait, self.requests, self.closed = completed, wait, [], False

    def run(self, argv, timeout, stdin=""):
        self.requests.append((argv, json.loads(stdin)))
        if self.wait:
            self.wait.wait(60)
        return self.completed

    def close(self):
        self.closed = True


def line(**said):
    return client.CommandResult(0, f"Welcome!\n{SURVEY_PREFIX}{json.dumps(said)}\n", "")


def test_what_is_asked():
    fakes = {name: Fake(line(versions={"mlx": "1"}, facts={}, host="liar", newer="field")) for name in HOSTS}
    said = job_survey.survey_hosts(CLUSTER, REQUEST, Seconds(5), lambda host: fakes[host.name])
    assert [(each.host, each.versions, each.facts) for each in said] == [(name, {"mlx": "1"}, {}) for name in HOSTS]
    ((argv, request),) = fakes["Mac4"].requests
    assert argv == ["tt/.venv/bin/python", "-P", "-m", "thunder", "survey"]
    assert request == REQUEST | {"env": {"HF_HOME": "/models"}, "runs": "~/tt/out", "whole": True}
    assert not fakes["Mac5"].requests[0][1]["whole"], "one host's counts are enough for the plan"
    assert all(fake.closed for fake in fakes.values())


@pytest.mark.parametrize(
    "completed, said",
    [
        (client.CommandResult(2, "", "x\nNo such command 'survey'.\n"), "exit code 2): No such command"),
        (client.CommandResult(0, "", ""), "nothing was printed"),
        (line(versions=3), "does not fit the question"),
        (client.CommandResult(0, f"{SURVEY_PREFIX}[1, 2", ""), "does not fit the question"),
        (client.CommandResult(0, f"{SURVEY_PREFIX}[1, 2]", ""), "does not fit the question"),
    ],
)
def test_no_answer_or_none_that_is_one(completed, said):
    assert said in job_survey.parse_survey("Mac4", "python", completed).unanswered


def test_no_python():
    said = job_survey.parse_survey("Mac4", "tt/python", client.CommandResult(127, "", "sh: tt/python: not found"))
    assert said.reach.kind == "no python" and "tt/python cannot be started" in said.reach.message


@pytest.mark.expensive
def test_a_host_that_is_not_reached_and_one_that_hangs():
    never = threading.Event()

    def connect(host):
        if host.name == "Mac4":
            raise client.SshError("refused", "no key", "ssh-copy-id")
        return Fake(wait=never)

    begun = time.monotonic()
    four, five = job_survey.survey_hosts(CLUSTER, REQUEST, Seconds(0.3), connect)
    assert time.monotonic() - begun < 30
    never.set()
    assert four.reach == ConnectionFailure("refused", "no key", "ssh-copy-id")
    assert five.unanswered == "no answer in time"


def test_a_connection_that_is_lost_while_asking():
    class Lost(Fake):
        def run(self, argv, timeout, stdin=""):
            raise client.SshError("no answer", "the ssh connection was lost")

    assert [each.unanswered for each in job_survey.survey_hosts(CLUSTER, REQUEST, Seconds(2), lambda host: Lost())] == [
        "the ssh connection was lost"
    ] * 2


def test_ranks_on_one_machine_are_asked_once():
    fake, count = Fake(line(facts={})), []
    said = job_survey.survey_hosts(local_cluster(3), REQUEST, Seconds(5), lambda host: count.append(host) or fake)
    assert [each.host for each in said] == ["local-0", "local-1", "local-2"] and len(count) == 1


def test_health_and_survey_in_one():
    """Both are asked for; a port is asked for at its own host; a fault that both find is said once."""
    fakes = {name: Fake(line(versions={"mlx": "1"}, facts={}, disk_free=1, memory=1)) for name in HOSTS}
    asked = []

    class Both(Fake):
        def run(self, argv, timeout, stdin=""):
            if "survey" in argv:
                return fakes["Mac4"].completed
            asked.append((argv[3], argv[4]))
            return client.CommandResult(1, "", "no answer here")

    every, surveys, read = job_survey.check_before_run(
        CLUSTER, REQUEST, [20001, 20002], Seconds(5), lambda host: Both()
    )
    assert [each.host for each in surveys] == [each.host for each in read] == ["Mac4", "Mac5"]
    assert sorted(json.loads(words)["wanted"] for name, words in asked if name == "ports") == [[20001], [20002]]
    assert {"disk", "probe"} <= {each.check for each in every if each.state == "failure"}
    assert [each.state for each in every] == sorted(
        [each.state for each in every], key=["failure", "warning", "ok"].index
    )


def test_findings_of_both_are_said_once():
    disk, model = Finding("disk", "ok", "a", "5 GB"), Finding("model", "failure", "a", "x")
    differs = Finding("software", "failure", "a, b", "mlx differs")
    numpy = Finding("software", "failure", "a, b", "numpy differs")
    again = [replace(disk, found="5.1 GB"), model, differs, numpy]
    assert job_survey.merge_findings([disk, differs], again) == [differs, model, numpy, disk]


def test_hostile_fields_reach_neither_shell_nor_path(tmp_path, monkeypatch):
    """Every field that may hold such words, on a host that is this machine: nothing is executed."""
    monkeypatch.chdir(tmp_path)
    for words in ("; touch PWNED", "$(touch PWNED)", "`touch PWNED`", "' ; touch PWNED ; '", '" ; touch PWNED ; "'):
        host = Host(name=words, ips=["127.0.0.1"], python=words, folder=words, runs=words)
        cluster = Cluster(name=words, hosts=[host], env={"A": words})
        every, (said,), _ = job_survey.check_before_run(cluster, REQUEST, [20001], Seconds(5))
        assert said.reach.kind == "no python"
        assert {each.check for each in every if each.state == "failure"} == {"python"}
        for fix in {each.fix for each in every if each.fix}:
            assert any(
                words in word or words in " ".join(shlex.split(word)) for word in shlex.split(fix, comments=True)
            )
    assert not list(tmp_path.rglob("PWNED"))


@pytest.mark.slow
def test_this_machine_answers_for_the_shipped_sample():
    (one, two) = job_survey.survey_hosts(local_cluster(2), {"job": "train", "settings": {}, "ranks": 2}, Seconds(60))
    assert one.error is None and one.unanswered is None, one
    assert one.facts["data"]["train"]["rows"] == 320 and one.facts == two.facts
    assert {each.state for each in survey_findings(local_cluster(2), [one, two])} <= {"ok", "warning"}

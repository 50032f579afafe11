import json
import shlex
import subprocess
import threading
import time
from dataclasses import replace

import pytest

from thunder.cluster.health import job_survey
from thunder.cluster.health.finding import Finding
from thunder.cluster.health.host_report import SURVEY_PREFIX, ConnectionFailure, HostSurvey, SurveyError
from thunder.cluster.health.job_consistency import copy_command, survey_findings, translate_path
from thunder.cluster.inventory.cluster_file import Cluster, Host, local_cluster
from thunder.cluster.ssh import client
from thunder.units import Seconds

FOUR = Host(name="Mac4", ssh="mac4", ips=["10.0.5.1"], folder="~/tt", memory_gb=64, runs="out")
FIVE = Host(name="Mac5", ssh="mac5", ips=["10.0.5.2"], folder="~/tt", memory_gb=64)
CLUSTER = Cluster(name="desk", hosts=[FOUR, FIVE], env={"HF_HOME": "/models"})
HOSTS = {host.name: host for host in CLUSTER.hosts}
REQUEST = {"job": "train", "settings": {"data": "data/ߒߞߏ"}, "ranks": 2}
VERSIONS = {"python": "3.12.4", "mlx": "0.32.4", "numpy": "2.4.6"}
FACTS = {
    "model": {"sha256": "a" * 64, "path": "/Users/four/tt/models/base", "bytes": int(3e9)},
    "data": {"sha256": {"train": "b" * 64}, "files": {"train": "/Users/four/rows/train.jsonl"}},
}


def surveyed(name, **change):
    user = {"Mac4": "four", "Mac5": "five"}[name]
    whole = HostSurvey(
        name,
        facts=FACTS,
        versions=VERSIONS,
        lock="c" * 64,
        memory=int(68.7e9),
        disk_free=int(1e11),
        home=f"/Users/{user}",
        project=f"/Users/{user}/tt",
    )
    return replace(whole, **change)


def found(**change):
    """The findings that are not ok, after a change to what Mac5 said."""
    every = survey_findings(CLUSTER, [surveyed("Mac4"), surveyed("Mac5", **change)])
    return [each for each in every if each.state != "ok"]


def facts(part, **change):
    return FACTS | {part: FACTS[part] | change}


def test_two_hosts_that_agree():
    every = survey_findings(CLUSTER, [surveyed("Mac4"), surveyed("Mac5")])
    assert {each.state for each in every} == {"ok"}
    assert {"model", "data", "software", "disk", "memory"} == {each.check for each in every}


@pytest.mark.parametrize(
    "change, check, where, said",
    [
        (
            {"versions": {"python": "3.12.4", "mlx": "0.32.4", "numpy": "2.5.0"}},
            "software",
            "Mac4, Mac5",
            "numpy differs",
        ),
        ({"versions": {"python": "3.12.4", "mlx": "0.32.4"}}, "software", "Mac5", "numpy is not there"),
        (
            {"lock": "d" * 64},
            "software",
            "Mac4, Mac5",
            "requirements.lock differs: Mac4 cccccccccccc, Mac5 dddddddddddd",
        ),
        ({"lock": None}, "software", "Mac5", "requirements.lock is not there"),
        (
            {"facts": facts("model", sha256="e" * 64)},
            "model",
            "Mac4, Mac5",
            "the base model differs: Mac4 aaaaaaaaaaaa, Mac5 eeeeeeeeeeee",
        ),
        (
            {"facts": facts("data", sha256={"train": "f" * 64})},
            "data",
            "Mac4, Mac5",
            "/Users/four/rows/train.jsonl differs: Mac4 bbbbbbbbbbbb, Mac5 ffffffffffff",
        ),
        (
            {"facts": facts("data", sha256={"train": "b" * 64, "valid": "f" * 64})},
            "data",
            "Mac4, Mac5",
            "valid differs: Mac4 (none), Mac5 ffffffffffff",
        ),
        ({"disk_free": int(5e8)}, "disk", "Mac5", "500.0 MB free"),
        ({"memory": int(2e9)}, "memory", "Mac5", "the base model's weights take 3.0 GB, memory is 2.0 GB"),
        ({"unanswered": "No such command 'survey'", "facts": None}, "survey", "Mac5", "No such command"),
        (
            {"reach": ConnectionFailure("refused", "no key", "ssh-copy-id"), "facts": None, "versions": {}},
            "ssh",
            "Mac5",
            "no key",
        ),
        ({"reach": ConnectionFailure("no python", "x"), "facts": None, "versions": {}}, "python", "Mac5", "x"),
    ],
)
def test_a_host_that_is_otherwise(change, check, where, said):
    failed = [each for each in found(**change) if each.state == "failure"]
    assert [(each.check, each.where) for each in failed] == [(check, where)]
    assert failed[0].found.startswith(said) and (failed[0].fix or "x" in failed[0].found)


def test_python_patch_releases_and_smaller_memory_are_warnings():
    assert [(each.check, each.state) for each in found(versions=surveyed("Mac4").versions | {"python": "3.12.9"})] == [
        ("software", "warning")
    ]
    assert "not the 64 GB" in found(memory=int(34e9))[0].found


@pytest.mark.parametrize(
    "kind, check",
    [("ModelError", "model"), ("CorpusError", "data"), ("UsageError", "settings"), ("OSError", "settings")],
)
def test_an_error_of_one_host_and_where_what_is_missing_can_be_had(kind, check):
    error = SurveyError(kind, "it is not there", "its own fix", 2)
    (one,) = found(error=error, facts=None)
    assert (one.check, one.state, one.where, one.found) == (check, "failure", "Mac5", "it is not there")
    assert (one.fix == "its own fix") == (check == "settings")
    both = survey_findings(CLUSTER, [surveyed(name, error=error, facts=None) for name in HOSTS])
    assert {each.fix for each in both if each.state == "failure"} == {"its own fix"}, "nobody has it"


@pytest.mark.parametrize(
    "path, there",
    [
        ("/Users/four/tt/data/x", "/Users/five/tt/data/x"),
        ("/Users/four/rows/x", "/Users/five/rows/x"),
        ("/Volumes/rows/x", "/Volumes/rows/x"),
        ("/Users/fourteen/x", "/Users/fourteen/x"),
    ],
)
def test_where_a_path_lies_on_the_other_host(path, there):
    assert translate_path(path, surveyed("Mac4"), surveyed("Mac5")) == there


def test_the_hubs_cache_is_copied_whole():
    path = "/Users/four/.cache/huggingface/hub/models--a--b/snapshots/123"
    command = copy_command(HOSTS, surveyed("Mac4", facts=facts("model", path=path)), surveyed("Mac5"), "model")
    assert "-C /Users/four/.cache/huggingface/hub -cf - models--a--b" in command
    assert "-C /Users/five/.cache/huggingface/hub -xf -" in command


def test_the_copying_command_copies_whatever_the_path_is(tmp_path):
    """Run as it is printed, with an `ssh` that runs its words as a remote shell would."""
    fake = tmp_path / "bin" / "ssh"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\n[ "$1" = mac4 ] || [ "$1" = mac5 ] || exit 9\nshift\nexec sh -c "$*"\n')
    fake.chmod(0o755)
    name = "a b; touch PWNED $(touch PWNED) `touch PWNED` 'q'"
    source, target = tmp_path / "four" / "rows" / name, tmp_path / "five" / "rows" / name
    source.mkdir(parents=True)
    (source / "train.jsonl").write_text("rows")
    giver = surveyed("Mac4", home=str(tmp_path / "four"), project="/none", facts=facts("model", path=str(source)))
    taker = surveyed("Mac5", home=str(tmp_path / "five"), project="/none")
    command = copy_command(HOSTS, giver, taker, "model")
    subprocess.run(
        ["sh", "-c", command], check=True, timeout=20, cwd=tmp_path, env={"PATH": f"{fake.parent}:/usr/bin:/bin"}
    )
    assert (target / "train.jsonl").read_text() == "rows"
    assert not list(tmp_path.rglob("PWNED"))


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

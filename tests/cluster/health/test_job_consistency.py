"""Findings on what a job needs on each host, and the commands that copy what is missing or differs."""

import subprocess
from dataclasses import replace

import pytest
from host_surveys import CLUSTER, HOSTS

from thunder.cluster.health.host_report import ConnectionFailure, HostSurvey, SurveyError
from thunder.cluster.health.job_consistency import copy_command, survey_findings, translate_path

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

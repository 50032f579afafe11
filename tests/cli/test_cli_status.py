import json

import pytest

from thunder.cli import main as cli
from thunder.cluster import status
from thunder.cluster.hosts import with_local_ranks
from thunder.cluster.readings import Reach, Reading

HERE = with_local_ranks(2)


@pytest.fixture
def report(monkeypatch):
    """What the hosts are pretended to have said."""

    def pretend(*readings):
        monkeypatch.setattr(status, "check", lambda cluster: status.report(HERE, readings, 0.5))

    return pretend


def test_healthy_is_0_and_sick_is_6(report, capsys):
    report(Reading("local-0"), Reading("local-1"))
    assert cli.main(["status", "--cluster", "local"]) == 0
    assert "healthy; asked for 0.5 s" in capsys.readouterr().out
    report(Reading("local-0"), Reading("local-1", Reach("unreachable", "[off]", "turn it on")))
    assert cli.main(["status"]) == 6
    said = capsys.readouterr().out
    assert "failure  ssh           local-1: [off]\n" in said
    assert "to fix: turn it on\n" in said
    assert "1 failure; asked for" in said


def test_json_has_the_same(report, capsys):
    report(Reading("local-0"), Reading("local-1", Reach("unreachable", "off", "turn it on")))
    assert cli.main(["status", "--json"]) == 6
    said = json.loads(capsys.readouterr().out)
    assert said["healthy"] is False
    assert said["findings"][0] == {
        "check": "ssh",
        "state": "failure",
        "where": "local-1",
        "found": "off",
        "fix": "turn it on",
    }


def test_watching_goes_on_until_ctrl_c(report, capsys, monkeypatch):
    report(Reading("local-0"), Reading("local-1"))
    naps = iter([None, None])

    def sleep(seconds):
        assert seconds == 2
        if next(naps, KeyboardInterrupt) is KeyboardInterrupt:
            raise KeyboardInterrupt

    monkeypatch.setattr("thunder.cli.status.time.sleep", sleep)
    assert cli.main(["status", "--json", "--watch", "2"]) == 0
    assert [json.loads(line)["healthy"] for line in capsys.readouterr().out.splitlines()] == [True] * 3


def test_an_unknown_cluster_is_a_mistake_of_use(capsys):
    assert cli.main(["status", "--cluster", "no-such"]) == 2
    assert "known: " in capsys.readouterr().err


def test_the_shipped_example_can_be_read(monkeypatch):
    seen = []
    monkeypatch.setattr(status, "check", lambda cluster: seen.append(cluster) or status.report(HERE, [], 0))
    monkeypatch.setattr(status, "report", lambda *_: {"healthy": True})
    assert cli.main(["status", "--json", "--cluster", "mac4-mac5"]) == 0
    assert [(host.name, host.ssh, host.ips) for host in seen[0].hosts] == [
        ("Mac4", "Mac4", ["10.0.5.1"]),
        ("Mac5", "Mac5", ["10.0.5.2"]),
    ]

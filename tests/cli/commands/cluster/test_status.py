import json

import pytest

from thunder.cli import main as cli
from thunder.cluster.health import cluster_status
from thunder.cluster.health.host_report import ConnectionFailure, HostReport
from thunder.cluster.inventory.cluster_file import local_cluster
from thunder.errors import HangError, ThunderError
from thunder.launcher import remote_checks
from thunder.runs.records import run_record

HERE = local_cluster(2)
WELL = (HostReport("local-0"), HostReport("local-1"))


@pytest.fixture(autouse=True)
def runs(monkeypatch, tmp_path):
    """Where runs lie."""
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


@pytest.fixture
def report(monkeypatch):
    """What the hosts are pretended to have said."""

    def pretend(*readings):
        monkeypatch.setattr(
            cluster_status, "check_cluster", lambda cluster: cluster_status.status_report(HERE, readings, 0.5)
        )

    return pretend


def test_healthy_is_0_and_sick_is_6(report, capsys):
    report(HostReport("local-0"), HostReport("local-1"))
    assert cli.main(["status", "--cluster", "local"]) == 0
    assert "healthy; took 0.5 s" in capsys.readouterr().out
    report(HostReport("local-0"), HostReport("local-1", ConnectionFailure("unreachable", "[off]", "turn it on")))
    assert cli.main(["status"]) == 6
    said = capsys.readouterr().out
    assert "failure  ssh           local-1: [off]\n" in said
    assert "to fix: turn it on\n" in said
    assert "1 failure; took" in said


def test_json_has_the_same(report, capsys):
    report(HostReport("local-0"), HostReport("local-1", ConnectionFailure("unreachable", "off", "turn it on")))
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
    report(HostReport("local-0"), HostReport("local-1"))
    naps = iter([None, None])

    def sleep(seconds):
        assert seconds == 2
        if next(naps, KeyboardInterrupt) is KeyboardInterrupt:
            raise KeyboardInterrupt

    monkeypatch.setattr("thunder.cli.commands.cluster.status.time.sleep", sleep)
    assert cli.main(["status", "--json", "--watch", "2"]) == 0
    assert [json.loads(line)["healthy"] for line in capsys.readouterr().out.splitlines()] == [True] * 3


def test_an_unknown_cluster_is_a_mistake_of_use(capsys):
    assert cli.main(["status", "--cluster", "no-such"]) == 2
    assert "known: " in capsys.readouterr().err


def test_the_shipped_example_can_be_read(monkeypatch):
    seen = []
    monkeypatch.setattr(
        cluster_status,
        "check_cluster",
        lambda cluster: seen.append(cluster) or cluster_status.status_report(HERE, [], 0),
    )
    monkeypatch.setattr(cluster_status, "status_report", lambda *_: {"healthy": True})
    assert cli.main(["status", "--json", "--cluster", "mac4-mac5"]) == 0
    assert [(host.name, host.ssh, host.ips) for host in seen[0].hosts] == [
        ("Mac4", "Mac4", ["10.0.5.1"]),
        ("Mac5", "Mac5", ["10.0.5.2"]),
    ]


def a_run(root, name, **files):
    folder = root / name
    folder.mkdir()
    for file, content in files.items():
        (folder / file.replace("_", ".")).write_text(json.dumps(content) + "\n")
    return folder


def test_runs_are_shown_newest_first_and_a_damaged_one_is_no_crash(report, runs, capsys):
    report(*WELL)
    plan = {"length": {"updates": 400}}
    a_run(runs, "20260101-000000-a-0001", plan_json=plan, results_json={"steps": 400, "test": {"cer_after": 0.25}})
    a_run(runs, "20260102-000000-b-0002", plan_json=[])
    going = a_run(runs, "20260103-000000-c-0003", plan_json=plan, metrics_jsonl={"step": 120, "loss": 1.5})
    with run_record.lock_run(going):
        assert cli.main(["status"]) == 0
        shown = capsys.readouterr().out.splitlines()
        assert cli.main(["status", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)["runs"]
    start = shown.index(f"runs in {runs}:") + 1
    first, second, third = (" ".join(line.split()) for line in shown[start:])
    assert first.startswith("running 20260103-000000-c-0003 step 120/400 loss 1.5000 ") and first.endswith(" s ago")
    assert second.startswith("damaged 20260102-000000-b-0002 ") and "(plan.json is not a JSON object)" in second
    assert third.startswith("done 20260101-000000-a-0001 step 400/400 CER 0.2500")
    assert [(each["state"], each["step"]) for each in said] == [("running", 120), ("damaged", None), ("done", 400)]


def test_no_runs_no_words(report, capsys):
    report(*WELL)
    cli.main(["status"])
    assert "runs" not in capsys.readouterr().out


@pytest.fixture
def smoke(monkeypatch):
    """What the smoke test is pretended to have come to; the clusters that it was started on."""
    started = []

    def pretend(outcome):
        def run(cluster, deadline):
            started.append((cluster, deadline))
            if isinstance(outcome, ThunderError):
                raise outcome
            return outcome

        monkeypatch.setattr(remote_checks, "check_ring_sums", run)
        return started

    return pretend


@pytest.mark.parametrize(
    "outcome, code, said",
    [
        ({"right": True, "ranks": 2, "seconds": 0.0008}, 0, "smoke: all_sum over 2 ranks right, 0.8 ms\n"),
        ({"right": False, "ranks": 2, "seconds": 1.0}, 6, "smoke: failure: all_sum over 2 ranks is wrong\n"),
        (HangError("rank 1 is silent", "thunder status"), 6, "failure: rank 1 is silent\n  to fix: thunder status\n"),
    ],
)
def test_smoke(report, smoke, capsys, outcome, code, said):
    report(*WELL)
    started = smoke(outcome)
    assert cli.main(["status", "--smoke"]) == code
    assert said in capsys.readouterr().out
    assert cli.main(["status", "--smoke", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["smoke"]["right"] == (code == 0)
    assert [(cluster.name, deadline > 0) for cluster, deadline in started] == [("local", True)] * 2


def test_no_smoke_where_something_fails_or_nobody_asked(report, smoke, capsys):
    started = smoke({"right": True, "ranks": 2, "seconds": 1.0})
    report(HostReport("local-0"), HostReport("local-1", ConnectionFailure("unreachable", "off", "")))
    assert cli.main(["status", "--smoke"]) == 6
    report(*WELL)
    assert cli.main(["status"]) == 0
    assert started == [] and "smoke" not in capsys.readouterr().out
    assert cli.main(["status", "--smoke", "--watch", "2"]) == 2

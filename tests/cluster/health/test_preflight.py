import shlex
from dataclasses import replace

import pytest
from host_readings import CLUSTER, FIVE, FOUR, PACKAGES, SOFTWARE, found, only, reading

from thunder.cluster.health import finding, preflight
from thunder.cluster.health.host_report import (
    ClockOffset,
    ConnectionFailure,
    Ping,
    Power,
    RdmaDevices,
    Resources,
    Route,
    RunningRank,
)
from thunder.cluster.inventory.cluster_file import Cluster, Host


def test_two_healthy_hosts():
    every = preflight.cluster_findings(CLUSTER, [reading(FOUR, FIVE), reading(FIVE, FOUR)])
    assert {each.state for each in every} == {"ok"}
    assert [each.where for each in every if each.check == "link"] == ["Mac4 -> Mac5", "Mac5 -> Mac4"]


@pytest.mark.parametrize("kind", ["unreachable", "unknown key", "changed key", "refused", "config"])
def test_a_host_that_ssh_does_not_reach(kind):
    assert only(reach=ConnectionFailure(kind, "why", "do this")) == ("ssh", "failure", "Mac4", "why", "do this")


def test_no_python():
    check, state, _, text, fix = only(
        reach=ConnectionFailure("no python", "tt/.venv/bin/python cannot be started: not found")
    )
    assert (check, state) == ("python", "failure")
    assert "cannot be started" in text and fix.startswith("ssh -t mac4 'cd ~/tt && ./launch.sh setup'")


def test_what_was_not_answered_fails():
    assert only(clock=None, unanswered={"clock": "not answered in time"})[:4] == (
        "probe",
        "failure",
        "Mac4",
        "clock: not answered in time",
    )


@pytest.mark.parametrize(
    "change, state, said",
    [
        ({"python": "3.12.5"}, "warning", "python differs: Mac4 3.12.5, Mac5 3.12.4"),
        ({"python": "3.13.1"}, "failure", "python differs"),
        ({"release": "26.3"}, "warning", "system differs: Mac4 Darwin 26.3"),
        ({"lock": "b" * 64}, "failure", "requirements.lock differs: Mac4 bbbbbbbbbbbb, Mac5 aaaaaaaaaaaa"),
        ({"lock": "(No such file or directory)"}, "failure", "requirements.lock is not there"),
        ({"packages": PACKAGES | {"mlx": "0.32.3"}}, "failure", "mlx differs: Mac4 0.32.3, Mac5 0.32.4"),
        ({"packages": PACKAGES | {"mlx-lm": "0.1"}}, "failure", "mlx-lm differs"),
        ({"packages": PACKAGES | {"thunder-train": None}}, "failure", "thunder-train is not there: Mac4 (not inst"),
    ],
)
def test_software_that_differs(change, state, said):
    one = only(software=replace(SOFTWARE, **change))
    assert one[:2] == ("software", state)
    assert said in one[3] and "./launch.sh setup" in one[4]


def test_the_lock_is_compared_only_where_it_was_asked_for():
    assert found(software=replace(SOFTWARE, lock=None)) == []


def test_ports():
    assert found(ports={20001: "Address already in use", 20002: None}) == [], "any of them will do"
    check, state, _, text, fix = only(ports={20001: "Address already in use"})
    assert (check, state, fix) == ("port", "failure", "ssh -t mac4 'lsof -nP -iTCP:20001'")
    assert "20001 (Address already in use)" in text


@pytest.mark.parametrize(
    "ahead, within, said", [(1.9, 0, None), (-2.5, 0.6, None), (2.5, 0.1, "2.4 s ahead of"), (-9, 0.1, "8.9 s behind")]
)
def test_clocks(ahead, within, said):
    every = found(clock=ClockOffset(ahead, within))
    assert len(every) == (1 if said else 0)
    if said:
        assert every[0][:2] == ("clock", "warning") and said in every[0][3]


@pytest.mark.parametrize("free, state", [(5.1e9, None), (4.9e9, "warning"), (0.9e9, "failure")])
def test_disk(free, state):
    every = found(resources=Resources(int(free), int(68.7e9), int(50e9)))
    assert [each[:2] for each in every] == ([("disk", state)] if state else [])


def test_memory():
    assert only(resources=Resources(int(1e11), int(68.7e9), int(1e9)))[:2] == ("memory", "warning")
    assert "not the 64 GB" in only(resources=Resources(int(1e11), int(34e9), int(20e9)))[3]
    assert found(resources=Resources(int(1e11), int(68.7e9), None)) == []


def test_ranks():
    assert found(ranks=[RunningRank(7, "python -m thunder rank x", False)]) == []
    check, state, _, text, fix = only(ranks=[RunningRank(7, "python -m thunder rank x", True)])
    assert (check, state, fix) == ("stale rank", "failure", "ssh -t mac4 'kill 7'")


@pytest.mark.parametrize(
    "power, check",
    [
        (None, None),
        (Power("AC Power", 0, 10, 10), None),
        (Power("Battery Power", 0, 10, 0), "power"),
        (Power("AC Power", 10, 10, 0), "sleep"),
        (Power("AC Power", 0, 0, 0), "display"),
        (Power(), None),
    ],
)
def test_power(power, check):
    assert [each[:2] for each in found(power=power)] == ([(check, "warning")] if check else [])


def test_a_hosts_words_are_quoted_in_fixes():
    hostile = Host(name="x", ssh="mac4", ips=["10.0.5.1"], folder="~/t; touch PWNED", runs="$(id)")
    assert preflight.host_command(hostile, "kill 7") == "ssh -t mac4 'kill 7'"
    (ssh, t, name, remote) = shlex.split(finding.host_command(hostile, f"cd {finding.quote_path(hostile.folder)}"))
    assert (ssh, t, name) == ("ssh", "-t", "mac4")
    assert shlex.split(remote) == ["cd", "~/t; touch PWNED"], "one word there as well"
    full = preflight.host_findings(hostile, reading(FOUR, FIVE, resources=Resources(1, int(68e9), None)))
    (fix,) = [each.fix for each in full if each.check == "disk"]
    assert shlex.split(shlex.split(fix, comments=True)[-1]) == ["du", "-sh", "~/t; touch PWNED/$(id)/*"]


JACCL = Cluster(
    name="j",
    backend="jaccl",
    hosts=[
        Host(name="Mac4", ssh="mac4", ips=["10.0.5.1"], rdma=[None, "rdma_en2"]),
        Host(name="Mac5", ssh="mac5", ips=["10.0.5.2"], rdma=[["rdma_en3", "rdma_en4"], None]),
    ],
)


@pytest.mark.parametrize(
    "change, devices, said",
    [
        ({}, ["rdma_en3", "rdma_en4"], None),
        ({"release": "26.1.9"}, ["rdma_en3", "rdma_en4"], "macOS 26.1.9: RDMA over Thunderbolt needs 26.2 or later"),
        ({"release": "27.0"}, ["rdma_en3", "rdma_en4"], None),
        ({"system": "Linux"}, ["rdma_en3", "rdma_en4"], "Linux: JACCL needs RDMA over Thunderbolt"),
        ({}, ["rdma_en3"], "no device rdma_en4: it lists rdma_en3"),
        ({}, None, "no device rdma_en3, rdma_en4: ibv_devices ended with 127"),
    ],
)
def test_what_jaccl_needs(change, devices, said):
    listed = RdmaDevices(devices or [], None if devices else "ibv_devices ended with 127")
    five = reading(FIVE, FOUR, rdma=listed, software=replace(SOFTWARE, **change))
    every = preflight.cluster_findings(JACCL, [reading(FOUR, FIVE, rdma=RdmaDevices(["rdma_en2"], None)), five])
    faults = [each for each in every if each.check == "rdma" and each.state == "failure"]
    assert [each.where for each in faults] == (["Mac5"] if said else [])
    assert not said or (faults[0].found.startswith(said) and faults[0].fix)
    assert not [each for each in preflight.cluster_findings(CLUSTER, [five]) if each.check == "rdma"], "only for jaccl"


def test_a_run_needs_every_port_that_it_asks_for():
    ports = {20001: "Address already in use", 20002: None}
    four = reading(FOUR, FIVE, ports=ports)
    failed = [each for each in preflight.cluster_findings(CLUSTER, [four], every_port=True) if each.state == "failure"]
    assert [each.check for each in failed] == ["port"] and "20001 (Address" in failed[0].found
    assert "20002" not in failed[0].found


def test_which_findings_are_about_links():
    down = {"ping": Ping(True, 3, 0, None, None, None), "route": Route("en0", None, "x", None)}
    four = reading(
        FOUR, FIVE, ranks=[RunningRank(7, "x", True)], unanswered={"tcp Mac5 10.0.5.2": "late", "clock": "?"}
    )
    four = replace(four, links=[replace(four.links[0], **down)])
    failed = [each for each in preflight.cluster_findings(CLUSTER, [four]) if each.state == "failure"]
    assert {(each.check, each.where) for each in failed if finding.is_link_finding(each)} == {
        ("link", "Mac4 -> Mac5"),
        ("route", "Mac4 -> Mac5"),
    }
    assert {each.check for each in failed if not finding.is_link_finding(each)} == {"stale rank", "probe"}


def test_different_chips_are_mentioned():
    two = [
        reading(FOUR, FIVE, software=replace(SOFTWARE, chip="M4")),
        reading(FIVE, FOUR, software=replace(SOFTWARE, chip="M5")),
    ]
    (one,) = [each for each in preflight.cluster_findings(CLUSTER, two) if each.check == "chip"]
    assert (one.state, one.found) == ("ok", "Mac4 M4, Mac5 M5: the faster waits for the slower")


def test_failures_come_first():
    states = [
        each.state
        for each in preflight.cluster_findings(
            CLUSTER, [reading(FOUR, FIVE, clock=ClockOffset(9, 0), reach=None, ports={1: "taken"}), reading(FIVE, FOUR)]
        )
    ]
    assert states == sorted(states, key=["failure", "warning", "ok"].index)

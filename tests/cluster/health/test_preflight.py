import shlex
from dataclasses import replace

import pytest

from thunder.cluster.health import cluster_status, finding, host_report, preflight
from thunder.cluster.health.host_report import (
    ClockOffset,
    ConnectionFailure,
    Interface,
    LinkReport,
    Ping,
    Power,
    RdmaDevices,
    Resources,
    Route,
    RunningRank,
    TcpCheck,
)
from thunder.cluster.inventory.cluster_file import Cluster, Host

FOUR = Host(name="Mac4", ssh="mac4", ips=["10.0.5.1"], memory_gb=64, folder="~/tt")
FIVE = Host(name="Mac5", ssh="me@mac5", ips=["10.0.5.2"], memory_gb=64, folder="~/tt")
CLUSTER = Cluster(name="desk", hosts=[FOUR, FIVE])
PACKAGES = {"mlx": "0.32.4", "mlx-lm": "0.32.2", "thunder-train": "0.1.0"}
SOFTWARE = host_report.Software("3.12.4", "Darwin", "26.2", PACKAGES, "a" * 64)
WELL = Ping(True, 3, 3, 0.31, 0.4, None)


def link(host, peer):
    return LinkReport(
        peer.name, host.ips[0], peer.ips[0], Route("bridge0", None, host.ips[0], None), WELL, TcpCheck(True, 0.5, None)
    )


def reading(host, peer, **more):
    interfaces = [
        Interface("lo0", ["127.0.0.1"], 16384, None),
        Interface("en0", [f"192.168.1.{host.name[-1]}"], 1500, True),
        Interface("bridge0", list(host.ips), 1500, True),
    ]
    whole = host_report.HostReport(
        host=host.name,
        software=SOFTWARE,
        interfaces=interfaces,
        ports={20001: None, 20002: None},
        clock=ClockOffset(0.1, 0.2),
        resources=Resources(int(100e9), int(68.7e9), int(50e9)),
        ranks=[],
        power=Power("AC Power", 0, 10, 0),
        links=[link(host, peer)],
    )
    return replace(whole, **more)


def found(link_change=None, **changes):
    """The findings that are not ok, after a change to what Mac4 said (link_change: about its link)."""
    four = reading(FOUR, FIVE, **changes)
    if link_change:
        four = replace(four, links=[replace(four.links[0], **link_change)])
    every = preflight.cluster_findings(CLUSTER, [four, reading(FIVE, FOUR)])
    return [(each.check, each.state, each.where, each.found, each.fix) for each in every if each.state != "ok"]


def only(link_change=None, **changes):
    (one,) = found(link_change, **changes)
    return one


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


@pytest.mark.parametrize("why", [None, "sendto: No route to host"])
def test_a_link_that_is_down_names_pair_and_cable(why):
    check, state, where, text, fix = only({"ping": Ping(True, 3, 0, None, None, why)})
    assert (check, state, where) == ("link", "failure", "Mac4 -> Mac5")
    assert text.startswith("link down: 10.0.5.2 does not answer by bridge0")
    assert "cable between Mac4 and Mac5" in fix and "ssh -t mac4 'ping -c 3 10.0.5.2'" in fix


def test_no_carrier():
    off = [Interface("bridge0", ["10.0.5.1"], 1500, False)]
    check, state, where, text, fix = only(interfaces=off)
    assert (check, state, where) == ("cable", "failure", "Mac4")
    assert "bridge0 (10.0.5.1) has no carrier" in text and "cable" in fix


@pytest.mark.parametrize("interface", ["en0", "utun4"])
def test_a_route_that_goes_elsewhere(interface):
    check, state, where, text, fix = only({"route": Route(interface, "192.168.1.5", "192.168.1.4", None)})
    assert (check, state, where) == ("route", "failure", "Mac4 -> Mac5")
    assert text == f"packets to 10.0.5.2 go out by {interface} over 192.168.1.5, not by bridge0, which has 10.0.5.1"
    assert fix == "ssh -t mac4 'sudo route -n change 10.0.5.2 -interface bridge0'"


def test_the_same_on_linux():
    linux = replace(SOFTWARE, system="Linux")
    every = found({"route": Route("en0", None, "192.168.1.4", None)}, software=linux)
    assert "ssh -t mac4 'sudo ip route replace 10.0.5.2 dev bridge0'" in [fix for *_, fix in every]


def test_no_route_at_all():
    assert only({"route": Route(None, None, None, "Network is unreachable")})[:3] == (
        "route",
        "failure",
        "Mac4 -> Mac5",
    )


@pytest.mark.parametrize("least, warns", [(0.26, False), (2.0, False), (2.1, True), (7.5, True)])
def test_a_slow_link(least, warns):
    every = found({"ping": replace(WELL, least=least, mean=least)})
    assert [each[:2] for each in every] == ([("link", "warning")] if warns else [])


def test_a_link_that_loses_packets():
    assert "2 of 3 pings answered" in only({"ping": replace(WELL, received=2)})[3]


def test_ping_goes_but_python_may_not():
    check, state, _, text, fix = only({"tcp": TcpCheck(False, None, "No route to host")})
    assert (check, state) == ("local network", "failure")
    assert "No route to host" in text and "Local Network" in fix
    assert found({"tcp": TcpCheck(False, None, "timed out")}) == [], (
        "a firewall that drops says nothing about the permission"
    )


def test_without_ping_tcp_tells():
    absent = Ping(False, 0, 0, None, None, "ping is not installed")
    assert found({"ping": absent}) == []
    assert only({"ping": absent, "tcp": TcpCheck(False, None, "timed out")})[:2] == ("link", "failure")


def test_an_address_that_is_not_on_the_host():
    check, state, where, text, fix = only(interfaces=[Interface("en0", ["192.168.1.4"], 1500, True)])
    assert (check, state, where) == ("address", "failure", "Mac4")
    assert text == "10.0.5.1 is on no interface there; it has 192.168.1.4 (en0)"
    assert fix.startswith("ssh -t mac4 'sudo networksetup -setmanual")


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


@pytest.mark.parametrize(
    "rate, fault, state, said",
    [
        (1.2e9, None, "ok", "1.2 GB/s"),
        (300e6, None, "ok", "300.0 MB/s"),
        (299e6, None, "warning", "slow: 299.0 MB/s"),
        (None, "nobody came", "warning", "not measured: nobody came"),
    ],
)
def test_throughput_warns_and_never_fails(rate, fault, state, said):
    four = replace(
        reading(FOUR, FIVE), links=[replace(link(FOUR, FIVE), throughput=host_report.Throughput(rate, fault))]
    )
    every = preflight.cluster_findings(CLUSTER, [four, reading(FIVE, FOUR)])
    (one,) = [each for each in every if each.check == "throughput"]
    assert (one.state, one.where, one.found) == (state, "Mac4 -> Mac5", said)
    assert bool(one.fix) == (state != "ok")
    assert "failure" not in {each.state for each in every}
    drawn = cluster_status.draw_cluster(cluster_status.status_report(CLUSTER, [four, reading(FIVE, FOUR)], 1.0))[2]
    assert drawn.startswith("  Mac4 -> Mac5    0.31 ms" + (f"  {said.removeprefix('slow: ')}  by" if rate else "  by"))


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


def test_the_picture_is_made_from_the_report():
    well = cluster_status.status_report(CLUSTER, [reading(FOUR, FIVE), reading(FIVE, FOUR)], 1.0)
    assert well["healthy"]
    assert cluster_status.draw_cluster(well)[:3] == [
        "[Mac4 10.0.5.1] ========= [Mac5 10.0.5.2]",
        "",
        "  Mac4 -> Mac5    0.31 ms  by bridge0, MTU 1500  to 10.0.5.2",
    ]
    down = replace(link(FOUR, FIVE), ping=Ping(True, 3, 0, None, None, None))
    cut = cluster_status.status_report(CLUSTER, [reading(FOUR, FIVE, links=[down]), reading(FIVE, FOUR)], 1.0)
    assert not cut["healthy"]
    assert cluster_status.draw_cluster(cut)[0] == "[Mac4 10.0.5.1] ==  X  == [Mac5 10.0.5.2]"
    off = cluster_status.status_report(
        CLUSTER, [host_report.HostReport("Mac4", ConnectionFailure("unreachable", "off")), reading(FIVE, FOUR)], 1.0
    )
    assert cluster_status.draw_cluster(off)[0] == "[Mac4 10.0.5.1] ==  ?  == [Mac5 10.0.5.2]"
    assert "Mac4: not reached" in cluster_status.draw_cluster(off)[-1]

"""Findings about the links between hosts: down, slow, lossy, over another route, and measured throughput."""

from dataclasses import replace

import pytest
from host_readings import CLUSTER, FIVE, FOUR, SOFTWARE, WELL, found, link, only, reading

from thunder.cluster.health import cluster_status, host_report, preflight
from thunder.cluster.health.host_report import (
    Interface,
    Ping,
    Route,
    TcpCheck,
)


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

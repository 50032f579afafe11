"""Readings of two healthy hosts for tests of findings, and the findings after a change to one of them."""

from dataclasses import replace

from thunder.cluster.health import host_report, preflight
from thunder.cluster.health.host_report import (
    ClockOffset,
    Interface,
    LinkReport,
    Ping,
    Power,
    Resources,
    Route,
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

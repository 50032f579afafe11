"""Build the status report of a cluster, from which both the JSON and the drawing are made."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from thunder.cluster.health import links, preflight, probe
from thunder.cluster.health.host_report import HostReport
from thunder.cluster.inventory.cluster_file import Cluster
from thunder.cluster.inventory.ports import random_ports
from thunder.units import Seconds, format_bytes

PORT_COUNT = 3  # random ports: one may be in use by chance, all of them hardly


def check_cluster(
    cluster: Cluster, deadline: Seconds = probe.PROBE_TIMEOUT, connect: probe.ConnectHost = probe.connect_host
) -> dict[str, Any]:
    """Probe all hosts and check the answers; ends soon after the deadline whatever is broken."""
    begun = time.monotonic()
    readings = probe.probe_hosts(cluster, random_ports(PORT_COUNT), deadline, connect)
    return status_report(cluster, readings, time.monotonic() - begun)


def status_report(cluster: Cluster, readings: Sequence[HostReport], seconds: float) -> dict[str, Any]:
    """Build the report, ready for JSON. No side effects."""
    findings = preflight.cluster_findings(cluster, readings)
    bad = {each.where for each in findings if each.state == "failure"}
    return {
        "cluster": cluster.name,
        "healthy": not bad,
        "seconds": round(seconds, 2),
        "hosts": [
            {
                "name": host.name,
                "ssh": host.ssh,
                "ips": host.ips,
                "healthy": host.name not in bad,
                **_host_values(reading),
            }
            for host, reading in zip(cluster.hosts, readings, strict=True)
        ],
        "links": [each for reading in readings for each in _link_values(reading, bad)],
        "findings": [asdict(each) for each in findings],
    }


def _host_values(reading: HostReport) -> dict[str, Any]:
    """Return a host's report without its links."""
    values = asdict(reading)
    values["ports"] = values["ports"] and {str(port): fault for port, fault in values["ports"].items()}
    return {key: values[key] for key in values if key not in ("host", "links", "unanswered")}


def _link_values(reading: HostReport, bad: set[str]) -> Iterator[dict[str, Any]]:
    for link in reading.links:
        holder = links.local_interface(reading, link)
        mtu = next((each.mtu for each in reading.interfaces or [] if each.name == holder), None)
        yield {
            "from": reading.host,
            "to": link.peer,
            "own": link.own,
            "address": link.address,
            "interface": link.route.interface if link.route else None,
            "own_interface": holder,
            "mtu": mtu,
            "rtt_ms": link.ping.least if link.ping else None,
            "rtt_mean_ms": link.ping.mean if link.ping else None,
            "bytes_per_second": link.throughput.bytes_per_second if link.throughput else None,
            "healthy": f"{reading.host} -> {link.peer}" not in bad and reading.host not in bad and link.peer not in bad,
        }


def draw_cluster(report: dict[str, Any]) -> list[str]:
    """Draw hosts in a row with the cables between neighbors (X: unhealthy, ?: unknown), then one line per direction."""
    broken = {frozenset((each["from"], each["to"])) for each in report["links"] if not each["healthy"]}
    unheard = {each["name"] for each in report["hosts"] if each["reach"]}
    row = ""
    for place, host in enumerate(report["hosts"]):
        if place:
            pair = frozenset((report["hosts"][place - 1]["name"], host["name"]))
            known = not pair & unheard
            row += " ==  X  == " if pair in broken and known else " ========= " if known else " ==  ?  == "
        row += f"[{host['name']} {host['ips'][0]}]"
    lines = [row, ""]
    for link in report["links"]:
        took = "no answer" if link["rtt_ms"] is None else f"{link['rtt_ms']:.2f} ms"
        carries = f"  {format_bytes(link['bytes_per_second'])}/s" if link["bytes_per_second"] else ""
        by = f"by {link['interface']}" if link["interface"] else "no route"
        mtu = f", MTU {link['mtu']}" if link["mtu"] and link["interface"] == link["own_interface"] else ""
        lines.append(f"  {link['from']} -> {link['to']}  {took:>9}{carries}  {by}{mtu}  to {link['address']}")
    lines += [f"  {name}: not reached, so the state of its links is unknown" for name in sorted(unheard)]
    return lines

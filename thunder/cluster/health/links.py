"""Check the links between hosts from their reports. No side effects."""

from __future__ import annotations

from collections.abc import Iterator

from thunder.cluster.health.finding import Finding, host_command
from thunder.cluster.health.host_report import HostReport, LinkReport, Throughput
from thunder.cluster.inventory.cluster_file import Host
from thunder.units import format_bytes

SLOW_LINK_MS = 2.0  # round trip in milliseconds; Thunderbolt takes 0.26 to 0.5, Wi-Fi 5 to 30
SLOW_LINK_BYTES = 300e6  # bytes per second; Thunderbolt carries 1 GB/s and more, Wi-Fi and USB less than this


def link_findings(host: Host, peer: Host, reading: HostReport, link: LinkReport) -> Iterator[Finding]:
    """Check one direction of one cable, as the host at its start reports it."""
    where = f"{host.name} -> {peer.name}"
    cable = f"plug in the Thunderbolt cable between {host.name} and {peer.name}, see that {peer.name} is on"
    cable += f", then: {host_command(host, f'ping -c 3 {link.address}')}"
    own = local_interface(reading, link)
    if link.route:
        yield from _route_findings(host, where, link, own, reading)
    if link.ping is None:
        return
    by = f" by {link.route.interface}" if link.route and link.route.interface else ""
    tcp = link.tcp
    if not link.ping.installed:
        if tcp and not tcp.answered:
            yield Finding("link", "failure", where, f"{link.address} is not reached{by}: {tcp.fault}", cable)
        elif tcp:
            yield Finding("link", "ok", where, f"{tcp.milliseconds:.2f} ms{by}, by TCP: ping is not installed there")
    elif not link.ping.received:
        text = f"link down: {link.address} does not answer{by}{f' ({link.ping.fault})' if link.ping.fault else ''}"
        yield Finding("link", "failure", where, text, cable)
    elif tcp and not tcp.answered and tcp.fault != "timed out":
        text = f"{link.address} answers ping, but Python there may not reach it: {tcp.fault}"
        fix = f"on {host.name}: System Settings, Privacy & Security, Local Network; or start it over ssh"
        yield Finding("local network", "failure", where, text, fix)
    else:
        yield from _latency_finding(where, link, by, cable)
    if link.throughput:
        yield from _throughput_finding(where, link.throughput, host_command(host, f"ping -c 3 {link.address}"))


def local_interface(reading: HostReport, link: LinkReport) -> str | None:
    """Return the interface of the cable: the one that has the host's own address on it."""
    holders = [each.name for each in reading.interfaces or [] if link.own in each.addresses]
    return holders[0] if holders else None


def _route_findings(
    host: Host, where: str, link: LinkReport, own: str | None, reading: HostReport
) -> Iterator[Finding]:
    route = link.route
    assert route is not None
    if route.interface is None:
        if route.fault:
            fix = f"give {host.name} the address {link.own} on the cable, with a mask that holds {link.address} too"
            yield Finding("route", "failure", where, f"there is no way to {link.address}: {route.fault}", fix)
    elif own is not None and route.interface != own:
        mac = reading.software is None or reading.software.system == "Darwin"
        change = (
            f"route -n change {link.address} -interface {own}" if mac else f"ip route replace {link.address} dev {own}"
        )
        via = f" over {route.gateway}" if route.gateway else ""
        text = f"packets to {link.address} go out by {route.interface}{via}, not by {own}, which has {link.own}"
        yield Finding("route", "failure", where, text, host_command(host, f"sudo {change}"))


def _latency_finding(where: str, link: LinkReport, by: str, cable: str) -> Iterator[Finding]:
    ping = link.ping
    assert ping is not None
    took = ping.least if ping.least is not None else 0.0
    text = f"{took:.2f} ms there and back (mean {ping.mean or took:.2f}){by}"
    if ping.received < ping.sent:
        yield Finding("link", "warning", where, f"{ping.received} of {ping.sent} pings answered; {text}", cable)
    elif took > SLOW_LINK_MS:
        fix = "is this the Thunderbolt address? Thunderbolt takes 0.26 to 0.5 ms; look at `ips` and at the route"
        yield Finding("link", "warning", where, f"slow: {text}", fix)
    else:
        yield Finding("link", "ok", where, text)


def _throughput_finding(where: str, measured: Throughput, look: str) -> Iterator[Finding]:
    """Check how much the cable carries; never a failure, because a run on a slow cable is only slow."""
    if measured.bytes_per_second is None:
        yield Finding("throughput", "warning", where, f"not measured: {measured.fault}", look)
        return
    text = f"{format_bytes(measured.bytes_per_second)}/s"
    if measured.bytes_per_second < SLOW_LINK_BYTES:
        fix = (
            "Thunderbolt carries 1 GB/s and more; is this Wi-Fi or a USB cable? look at `ips`, the route and the cable"
        )
        yield Finding("throughput", "warning", where, f"slow: {text}", fix)
    else:
        yield Finding("throughput", "ok", where, text)

"""Deciding: what the readings of a cluster's hosts mean for a run, each finding with its fix. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from thunder.cluster.hosts import Cluster, Host
from thunder.cluster.readings import LinkReading, Reading
from thunder.units import format_bytes

SLOW_LINK = 2.0  # milliseconds there and back; Thunderbolt takes 0.26 to 0.5, Wi-Fi 5 to 30
CLOCKS = 2.0  # seconds; timestamps in the logs of two hosts are compared by people
DISK_WANTED, DISK_NEEDED = 5e9, 1e9  # bytes; a 4-bit gemma-4-e2b takes the first, a small run's checkpoints the other
MEMORY_WANTED = 2e9  # bytes free; below, macOS starts to swap
MEMORY_SAID = 0.85  # share of the cluster file's memory_gb that must be there; decimal GB and GiB differ by 7 %

State = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """What one check found. where: a host, or 'Mac4 -> Mac5'. fix: a command that can be copied."""

    check: str
    state: State
    where: str
    found: str
    fix: str = ""


def findings(cluster: Cluster, readings: Sequence[Reading]) -> list[Finding]:
    """Everything that the readings say, failures first."""
    hosts = {host.name: host for host in cluster.hosts}
    found = [each for reading in readings for each in of_host(hosts[reading.host], reading)]
    found += same_software(readings)
    found += [
        each
        for reading in readings
        if reading.reach is None
        for link in reading.links
        for each in of_link(hosts[reading.host], hosts[link.peer], reading, link)
    ]
    order: dict[State, int] = {"failure": 0, "warning": 1, "ok": 2}
    return sorted(found, key=lambda each: order[each.state])


def on(host: Host, command: str) -> str:
    """A command as it is typed on the launching machine."""
    return command if host.is_this_machine else shlex.join(["ssh", "-t", host.ssh or host.name, command])


def of_host(host: Host, reading: Reading) -> Iterator[Finding]:
    """One host by itself."""
    if reading.reach:
        fix = reading.reach.fix
        if reading.reach.kind == "no python":
            fix = on(host, f"cd {host.folder or 'thunder-train'} && ./launch.sh setup") + "   # or correct `python`"
        check = "python" if reading.reach.kind == "no python" else "ssh"
        yield Finding(check, "failure", host.name, reading.reach.message, fix)
        return
    yield Finding("ssh", "ok", host.name, "this machine" if host.is_this_machine else f"as {host.ssh}")
    for question, why in reading.unanswered.items():
        yield Finding("probe", "failure", host.name, f"{question}: {why}", "thunder_status   # again")
    yield from own_addresses(host, reading)
    yield from taken_ports(host, reading)
    yield from clock(host, reading)
    yield from room(host, reading)
    yield from stale_ranks(host, reading)
    yield from power(host, reading)


def own_addresses(host: Host, reading: Reading) -> Iterator[Finding]:
    """The addresses that the cluster file gives a host must be on it."""
    if reading.interfaces is None:
        return
    for ip in host.ips:
        holder = next((each for each in reading.interfaces if ip in each.addresses), None)
        if holder is None:
            held = ", ".join(f"{a} ({each.name})" for each in reading.interfaces for a in each.addresses)
            # a Mac's service for the cable has this name unless its owner changed it
            fix = on(host, f"sudo networksetup -setmanual 'Thunderbolt Bridge' {ip} 255.255.255.0")
            if reading.software and reading.software.system != "Darwin":
                fix = f"give {host.name} the address {ip}, or correct `ips` in the cluster file"
            yield Finding("address", "failure", host.name, f"{ip} is on no interface there; it has {held}", fix)
        elif holder.active is False:
            text = f"{holder.name} ({ip}) has no carrier: nothing is plugged in, or what is at the other end is off"
            yield Finding("cable", "failure", host.name, text, "plug the Thunderbolt cable in at both ends")
        else:
            mtu = f", MTU {holder.mtu}" if holder.mtu else ""
            yield Finding("address", "ok", host.name, f"{ip} on {holder.name}{mtu}")


def taken_ports(host: Host, reading: Reading) -> Iterator[Finding]:
    """A run takes one port; several are asked for where any will do."""
    ports = reading.ports or {}
    taken = {port: fault for port, fault in ports.items() if fault}
    if taken and len(taken) == len(ports) and not any("assign" in fault for fault in taken.values()):
        text = f"cannot be listened on at {host.ips[0]}: " + ", ".join(f"{port} ({why})" for port, why in taken.items())
        yield Finding("port", "failure", host.name, text, on(host, f"lsof -nP -iTCP:{min(taken)}"))
    elif ports and not taken:
        yield Finding("port", "ok", host.name, f"free at {host.ips[0]}")


def clock(host: Host, reading: Reading) -> Iterator[Finding]:
    """The clock against the launcher's, as far as the way there lets it be told."""
    if reading.clock is None:
        return
    off = abs(reading.clock.ahead) - reading.clock.within
    if off > CLOCKS:
        side = "ahead of" if reading.clock.ahead > 0 else "behind"
        mac = reading.software is None or reading.software.system == "Darwin"
        fix = on(host, "sudo sntp -sS time.apple.com" if mac else "sudo timedatectl set-ntp true")
        yield Finding("clock", "warning", host.name, f"{off:.1f} s {side} this machine's", fix)
    else:
        yield Finding("clock", "ok", host.name, f"within {abs(reading.clock.ahead) + reading.clock.within:.1f} s")


def room(host: Host, reading: Reading) -> Iterator[Finding]:
    """Disk and memory."""
    if reading.resources is None:
        return
    disk, free, total = reading.resources.disk_free, reading.resources.memory_free, reading.resources.memory
    if disk < DISK_WANTED:
        state: State = "failure" if disk < DISK_NEEDED else "warning"
        fix = on(host, f"du -sh {host.folder or '~'}/runs/*") + "   # delete old ones"
        yield Finding("disk", state, host.name, f"{format_bytes(disk)} free, {format_bytes(DISK_WANTED)} wanted", fix)
    else:
        yield Finding("disk", "ok", host.name, f"{format_bytes(disk)} free")
    if host.memory_gb and total < host.memory_gb * 1e9 * MEMORY_SAID:
        text = f"{format_bytes(total)} in all, not the {host.memory_gb:g} GB of the cluster file"
        yield Finding("memory", "warning", host.name, text, "correct `memory_gb` in the cluster file")
    elif free is not None and free < MEMORY_WANTED:
        text = f"{format_bytes(free)} of {format_bytes(total)} free"
        yield Finding("memory", "warning", host.name, text, on(host, "top -o mem") + "   # and close what is large")
    else:
        said = f"{format_bytes(free)} of " if free is not None else ""
        yield Finding("memory", "ok", host.name, f"{said}{format_bytes(total)}{' free' if said else ''}")


def stale_ranks(host: Host, reading: Reading) -> Iterator[Finding]:
    """Ranks that an earlier run left behind; those of a run that goes on are only mentioned."""
    for rank in reading.ranks or []:
        if rank.orphan:
            text = f"pid {rank.pid} is left over from an earlier run: {rank.command}"
            yield Finding("stale rank", "failure", host.name, text, on(host, f"kill {rank.pid}"))
        else:
            yield Finding("rank", "ok", host.name, f"a run is at work (pid {rank.pid})")


def power(host: Host, reading: Reading) -> Iterator[Finding]:
    """Of a Mac: what would send it to sleep in the middle of a run, or lets its display take the GPU's time."""
    said = reading.power
    if said is None:
        return
    before = sum((said.source == "Battery Power", bool(said.sleep), said.displaysleep == 0))
    if said.source == "Battery Power":
        yield Finding("power", "warning", host.name, "on battery", f"plug {host.name} into the mains")
    if said.sleep:
        text = f"sleeps after {said.sleep} idle minutes, in which a rank stands still"
        yield Finding("sleep", "warning", host.name, text, on(host, "sudo pmset -a sleep 0"))
    if said.displaysleep == 0:
        text = "the display never sleeps; while it is on, macOS may kill long GPU work"
        yield Finding("display", "warning", host.name, text, on(host, "sudo pmset -a displaysleep 5"))
    if not before:
        yield Finding("sleep", "ok", host.name, said.source or "never")


def same_software(readings: Sequence[Reading]) -> Iterator[Finding]:
    """Both halves of a run must compute the same."""
    read = {each.host: each.software for each in readings if each.software}
    if not read:
        return
    where = ", ".join(read)
    rows = {name: {host: said.packages.get(name) for host, said in read.items()} for name in _packages(readings)}
    rows["requirements.lock"] = {host: said.lock for host, said in read.items() if said.lock is not None}
    rows["python"] = {host: said.python for host, said in read.items()}
    rows["system"] = {host: f"{said.system} {said.release}" for host, said in read.items()}
    fix = "in the project's folder on each host: git pull && ./launch.sh setup"
    fine = []
    for name, versions in rows.items():
        shown = ", ".join(f"{host} {_short(version)}" for host, version in versions.items())
        absent = [host for host, version in versions.items() if version is None or version.startswith("(")]
        if absent:
            yield Finding("software", "failure", ", ".join(absent), f"{name} is not there: {shown}", fix)
        elif len(set(versions.values())) > 1:
            minor = {".".join(str(version).split(".")[:2]) for version in versions.values()}
            slight = name == "system" or (name == "python" and len(minor) == 1)
            yield Finding("software", "warning" if slight else "failure", where, f"{name} differs: {shown}", fix)
        elif versions:
            fine.append(f"{name} {_short(next(iter(versions.values())))}")
    if fine:
        yield Finding("software", "ok", where, ", ".join(fine))


def _packages(readings: Sequence[Reading]) -> list[str]:
    return sorted({name for each in readings if each.software for name in each.software.packages})


def _short(version: str | None) -> str:
    if version is None:
        return "(not installed)"
    return version[:12] if len(version) == 64 else version


def of_link(host: Host, peer: Host, reading: Reading, link: LinkReading) -> Iterator[Finding]:
    """One direction of one cable, as the host at its beginning sees it."""
    where = f"{host.name} -> {peer.name}"
    cable = f"plug in the Thunderbolt cable between {host.name} and {peer.name}, see that {peer.name} is on"
    cable += f", then: {on(host, f'ping -c 3 {link.address}')}"
    own = own_interface(reading, link)
    if link.route:
        yield from _route(host, where, link, own, reading)
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
        yield from _quality(where, link, by, cable)


def own_interface(reading: Reading, link: LinkReading) -> str | None:
    """The interface of the cable: the one that holds the host's own address on it."""
    holders = [each.name for each in reading.interfaces or [] if link.own in each.addresses]
    return holders[0] if holders else None


def _route(host: Host, where: str, link: LinkReading, own: str | None, reading: Reading) -> Iterator[Finding]:
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
        yield Finding("route", "failure", where, text, on(host, f"sudo {change}"))


def _quality(where: str, link: LinkReading, by: str, cable: str) -> Iterator[Finding]:
    said = link.ping
    assert said is not None
    took = said.least if said.least is not None else 0.0
    text = f"{took:.2f} ms there and back (mean {said.mean or took:.2f}){by}"
    if said.received < said.sent:
        yield Finding("link", "warning", where, f"{said.received} of {said.sent} pings answered; {text}", cable)
    elif took > SLOW_LINK:
        fix = "is this the Thunderbolt address? Thunderbolt takes 0.26 to 0.5 ms; look at `ips` and at the route"
        yield Finding("link", "warning", where, f"slow: {text}", fix)
    else:
        yield Finding("link", "ok", where, text)

"""Check the reports of a cluster's hosts before a run, each finding with its fix. No side effects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from thunder.cluster.health.finding import Finding, FindingState, failures_first, host_command, quote_path
from thunder.cluster.health.host_report import HostReport
from thunder.cluster.health.links import link_findings
from thunder.cluster.inventory.cluster_file import Cluster, Host
from thunder.units import format_bytes

MAX_CLOCK_OFFSET = 2.0  # seconds; people compare timestamps in the logs of two hosts
DISK_RECOMMENDED, DISK_REQUIRED = (
    5e9,
    1e9,
)  # bytes; a 4-bit gemma-4-e2b takes the first, a small run's checkpoints the other
MEMORY_RECOMMENDED = 2e9  # bytes free; below, macOS starts to swap
RDMA_MIN_MACOS = (26, 2)  # of macOS
MEMORY_TOLERANCE = (
    0.85  # share of the cluster file's memory_gb that the host must have; decimal GB and GiB differ by 7 %
)


def cluster_findings(cluster: Cluster, readings: Sequence[HostReport], *, every_port: bool = False) -> list[Finding]:
    """Return all findings, failures first. every_port: all requested ports are needed."""
    hosts = {host.name: host for host in cluster.hosts}
    findings = [each for reading in readings for each in host_findings(hosts[reading.host], reading, every_port)]
    findings += software_findings(readings)
    findings += chip_findings(readings)
    findings += [
        each
        for reading in readings
        if cluster.backend == "jaccl" and reading.reach is None
        for each in rdma_findings(hosts[reading.host], reading)
    ]
    findings += [
        each
        for reading in readings
        if reading.reach is None
        for link in reading.links
        for each in link_findings(hosts[reading.host], hosts[link.peer], reading, link)
    ]
    return failures_first(findings)


def host_findings(host: Host, reading: HostReport, every_port: bool = False) -> Iterator[Finding]:
    """Check one host by itself."""
    if reading.reach:
        fix = reading.reach.fix
        if reading.reach.kind == "no python":
            fix = (
                host_command(host, f"cd {quote_path(host.folder or 'thunder-train')} && ./launch.sh setup")
                + "   # or correct `python`"
            )
        check = "python" if reading.reach.kind == "no python" else "ssh"
        yield Finding(check, "failure", host.name, reading.reach.message, fix)
        return
    yield Finding("ssh", "ok", host.name, "this machine" if host.is_this_machine else f"as {host.ssh}")
    for question, why in reading.unanswered.items():
        kind, _, link = question.partition(" ")
        where = f"{host.name} -> {link.rpartition(' ')[0]}" if link else host.name
        check = "link" if link else "probe"
        yield Finding(check, "failure", where, f"{kind}: {why}", "thunder_status   # again")
    yield from address_findings(host, reading)
    yield from port_findings(host, reading, every_port)
    yield from clock_findings(host, reading)
    yield from capacity_findings(host, reading)
    yield from stale_rank_findings(host, reading)
    yield from power_findings(host, reading)


def address_findings(host: Host, reading: HostReport) -> Iterator[Finding]:
    """Check that a host has the addresses that the cluster file gives it."""
    if reading.interfaces is None:
        return
    for ip in host.ips:
        holder = next((each for each in reading.interfaces if ip in each.addresses), None)
        if holder is None:
            held = ", ".join(f"{a} ({each.name})" for each in reading.interfaces for a in each.addresses)
            # default name of macOS's network service for the cable
            fix = host_command(host, f"sudo networksetup -setmanual 'Thunderbolt Bridge' {ip} 255.255.255.0")
            if reading.software and reading.software.system != "Darwin":
                fix = f"give {host.name} the address {ip}, or correct `ips` in the cluster file"
            yield Finding("address", "failure", host.name, f"{ip} is on no interface there; it has {held}", fix)
        elif holder.active is False:
            text = f"{holder.name} ({ip}) has no carrier: nothing is plugged in, or what is at the other end is off"
            yield Finding("cable", "failure", host.name, text, "plug the Thunderbolt cable in at both ends")
        else:
            mtu = f", MTU {holder.mtu}" if holder.mtu else ""
            yield Finding("address", "ok", host.name, f"{ip} on {holder.name}{mtu}")


def port_findings(host: Host, reading: HostReport, every_port: bool = False) -> Iterator[Finding]:
    """Check ports to listen on: a status needs one of several, a run (every_port) needs each."""
    ports = reading.ports or {}
    taken = {port: fault for port, fault in ports.items() if fault}
    if any("assign" in fault for fault in taken.values()):  # not an address of that host: address_findings reports it
        return
    if taken and (every_port or len(taken) == len(ports)):
        text = f"cannot be listened on at {host.ips[0]}: " + ", ".join(f"{port} ({why})" for port, why in taken.items())
        yield Finding("port", "failure", host.name, text, host_command(host, f"lsof -nP -iTCP:{min(taken)}"))
    elif ports and not taken:
        yield Finding("port", "ok", host.name, f"free at {host.ips[0]}")


def clock_findings(host: Host, reading: HostReport) -> Iterator[Finding]:
    """Compare the clock with the launcher's, as exactly as the round trip allows."""
    if reading.clock is None:
        return
    off = abs(reading.clock.ahead) - reading.clock.within
    if off > MAX_CLOCK_OFFSET:
        side = "ahead of" if reading.clock.ahead > 0 else "behind"
        mac = reading.software is None or reading.software.system == "Darwin"
        fix = host_command(host, "sudo sntp -sS time.apple.com" if mac else "sudo timedatectl set-ntp true")
        yield Finding("clock", "warning", host.name, f"{off:.1f} s {side} this machine's", fix)
    else:
        yield Finding("clock", "ok", host.name, f"within {abs(reading.clock.ahead) + reading.clock.within:.1f} s")


def capacity_findings(host: Host, reading: HostReport) -> Iterator[Finding]:
    """Check disk space and memory."""
    if reading.resources is None:
        return
    disk, free, total = reading.resources.disk_free, reading.resources.memory_free, reading.resources.memory
    if disk < DISK_RECOMMENDED:
        state: FindingState = "failure" if disk < DISK_REQUIRED else "warning"
        fix = (
            host_command(host, f"du -sh {quote_path(host.runs_folder or '~/thunder-train/runs')}/*")
            + "   # delete old ones"
        )
        yield Finding(
            "disk", state, host.name, f"{format_bytes(disk)} free, {format_bytes(DISK_RECOMMENDED)} wanted", fix
        )
    else:
        yield Finding("disk", "ok", host.name, f"{format_bytes(disk)} free")
    if host.memory_gb and total < host.memory_gb * 1e9 * MEMORY_TOLERANCE:
        text = f"{format_bytes(total)} in all, not the {host.memory_gb:g} GB of the cluster file"
        yield Finding("memory", "warning", host.name, text, "correct `memory_gb` in the cluster file")
    elif free is not None and free < MEMORY_RECOMMENDED:
        text = f"{format_bytes(free)} of {format_bytes(total)} free"
        yield Finding(
            "memory", "warning", host.name, text, host_command(host, "top -o mem") + "   # and close what is large"
        )
    else:
        of_total = f"{format_bytes(free)} of " if free is not None else ""
        yield Finding("memory", "ok", host.name, f"{of_total}{format_bytes(total)}{' free' if of_total else ''}")


def stale_rank_findings(host: Host, reading: HostReport) -> Iterator[Finding]:
    """Report ranks that an earlier run left behind; ranks of a live run are only mentioned."""
    for rank in reading.ranks or []:
        if rank.orphan:
            text = f"pid {rank.pid} is left over from an earlier run: {rank.command}"
            yield Finding("stale rank", "failure", host.name, text, host_command(host, f"kill {rank.pid}"))
        else:
            yield Finding("rank", "ok", host.name, f"a run is at work (pid {rank.pid})")


def power_findings(host: Host, reading: HostReport) -> Iterator[Finding]:
    """Check a Mac's power settings: sleep during a run, and a display that takes GPU time."""
    power = reading.power
    if power is None:
        return
    before = sum((power.source == "Battery Power", bool(power.sleep), power.displaysleep == 0))
    if power.source == "Battery Power":
        yield Finding("power", "warning", host.name, "on battery", f"plug {host.name} into the mains")
    if power.sleep:
        text = f"sleeps after {power.sleep} idle minutes, in which a rank stands still"
        yield Finding("sleep", "warning", host.name, text, host_command(host, "sudo pmset -a sleep 0"))
    if power.displaysleep == 0:
        text = "the display never sleeps; while it is on, macOS may kill long GPU work"
        yield Finding("display", "warning", host.name, text, host_command(host, "sudo pmset -a displaysleep 5"))
    if not before:
        yield Finding("sleep", "ok", host.name, power.source or "never")


def software_findings(readings: Sequence[HostReport]) -> Iterator[Finding]:
    """Compare versions: all ranks must compute the same."""
    read = {each.host: each.software for each in readings if each.software}
    packages = sorted({name for software in read.values() for name in software.packages})
    rows = {name: {host: software.packages.get(name) for host, software in read.items()} for name in packages}
    rows["requirements.lock"] = {host: software.lock for host, software in read.items() if software.lock is not None}
    rows["python"] = {host: software.python for host, software in read.items()}
    rows["system"] = {host: f"{software.system} {software.release}" for host, software in read.items()}
    yield from version_findings("software", ", ".join(read), rows)


def version_findings(check: str, where: str, rows: Mapping[str, Mapping[str, str | None]]) -> Iterator[Finding]:
    """Report versions that are missing or differ between hosts, and one line with those that agree.

    rows: name -> host -> version.
    """
    fix = "in the project's folder on each host: git pull && ./launch.sh setup"
    fine = []
    for name, versions in rows.items():
        shown = ", ".join(f"{host} {_short_version(version)}" for host, version in versions.items())
        absent = [host for host, version in versions.items() if version is None or version.startswith("(")]
        if absent:
            yield Finding(check, "failure", ", ".join(absent), f"{name} is not there: {shown}", fix)
        elif len(set(versions.values())) > 1:
            minor = {".".join(str(version).split(".")[:2]) for version in versions.values()}
            slight = name == "system" or (name == "python" and len(minor) == 1)
            yield Finding(check, "warning" if slight else "failure", where, f"{name} differs: {shown}", fix)
        elif versions:
            fine.append(f"{name} {_short_version(next(iter(versions.values())))}")
    if fine:
        yield Finding(check, "ok", where, ", ".join(fine))


def _short_version(version: str | None) -> str:
    if version is None:
        return "(not installed)"
    return version[:12] if len(version) == 64 else version


def chip_findings(readings: Sequence[HostReport]) -> Iterator[Finding]:
    """Report the processors; different ones are no fault, but the faster waits for the slower at every step."""
    read = {each.host: each.software.chip for each in readings if each.software and each.software.chip}
    if read:
        same = len(set(read.values())) == 1
        text = next(iter(read.values())) if same else ", ".join(f"{host} {chip}" for host, chip in read.items())
        yield Finding("chip", "ok", ", ".join(read), text if same else f"{text}: the faster waits for the slower")


def rdma_findings(host: Host, reading: HostReport) -> Iterator[Finding]:
    """Check what JACCL needs: macOS 26.2 or later, and the devices of the cluster file."""
    software = reading.software
    if software and software.system != "Darwin":
        text = f"{software.system}: JACCL needs RDMA over Thunderbolt, which only a Mac has"
        yield Finding("rdma", "failure", host.name, text, "write `backend: ring` in the cluster file")
        return
    if software and tuple(int(part) for part in software.release.split(".")[:2] if part.isdigit()) < RDMA_MIN_MACOS:
        text = f"macOS {software.release}: RDMA over Thunderbolt needs {'.'.join(map(str, RDMA_MIN_MACOS))} or later"
        yield Finding("rdma", "failure", host.name, text, host_command(host, "softwareupdate -l"))
    if reading.rdma is None:
        return
    expected = {name: None for number in range(len(host.rdma or [])) for name in host.devices_to(number)}
    absent = [name for name in expected if name not in reading.rdma.devices]
    if absent:
        why = reading.rdma.fault or f"it lists {', '.join(reading.rdma.devices) or 'none'}"
        fix = f"start {host.name} into Recovery, there: rdma_ctl enable; then: {host_command(host, 'ibv_devices')}"
        yield Finding("rdma", "failure", host.name, f"no device {', '.join(absent)}: {why}", fix)
    else:
        yield Finding("rdma", "ok", host.name, ", ".join(expected))

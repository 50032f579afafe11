"""Answers one question about its machine; sent over SSH to a host's own Python (3.9 or newer, no packages).

`python -I - QUESTION JSON` prints one line: ANSWER_PREFIX and the answer as JSON. macOS and Linux answer in the same
form.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time

ANSWER_PREFIX = "THUNDER-ANSWER "
MAC = platform.system() == "Darwin"
PACKAGES = ("mlx", "mlx-lm", "thunder-train")


def run_command(*argv: str, seconds: float = 4) -> tuple[int, str, str]:
    """Return exit status, stdout and stderr of a command; 127 if it is not installed, 124 if it does not end."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/bin", "/bin", "/usr/sbin", "/sbin"])
    environ = {**os.environ, "LC_ALL": "C", "PATH": path}
    try:
        done = subprocess.run(
            argv, env=environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except FileNotFoundError:
        return 127, "", f"{argv[0]} is not installed"
    except subprocess.TimeoutExpired:
        return 124, "", f"{argv[0]} did not end within {seconds:g} s"
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace").strip()


def software(folder: str | None) -> dict:
    """Return versions of Python, system and packages, and the digest of the lock file."""
    from importlib import metadata

    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = None
    lock = None
    if folder:
        try:
            with open(os.path.join(os.path.expanduser(folder), "requirements.lock"), "rb") as stream:
                lock = hashlib.sha256(stream.read()).hexdigest()
        except OSError as error:
            lock = f"({error.strerror})"
    release = platform.mac_ver()[0] if MAC else platform.release()
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "release": release,
        "packages": packages,
        "lock": lock,
        "chip": chip(),
    }


def chip() -> str | None:
    """Return the processor's name."""
    if MAC:
        return run_command("sysctl", "-n", "machdep.cpu.brand_string")[1].strip() or None
    try:
        with open("/proc/cpuinfo") as stream:
            match = re.search(r"^model name\s*: *(.+)$", stream.read(), re.M)
    except OSError:
        return None
    return match[1].strip() if match else None


def rdma() -> dict:
    """Return the RDMA devices that this machine lists."""
    status, text, complaint = run_command("ibv_devices")
    rows = [line.split() for line in text.splitlines()]
    names = [words[0] for words in rows if len(words) == 2 and re.fullmatch(r"[0-9a-fA-F]{16}", words[1])]
    return {"devices": names, "fault": (complaint or f"ibv_devices ended with {status}") if status else None}


def interfaces() -> list:
    """Return name, IPv4 addresses, MTU and carrier (None: unknown) of every interface."""
    if MAC:
        return parse_ifconfig(run_command("ifconfig", "-a")[1])
    return [linux_interface(name) for _, name in socket.if_nameindex()]


def parse_ifconfig(text: str) -> list:
    """Parse the output of macOS's ifconfig: a heading per interface, its lines indented."""
    result: list = []
    for line in text.splitlines():
        heading = re.match(r"(\S+?): flags=\S+.*?(?: mtu (\d+))?$", line)
        if heading:
            mtu = int(heading[2]) if heading[2] else None
            result.append({"name": heading[1], "addresses": [], "mtu": mtu, "active": None})
        elif result and (words := line.split()):
            if words[0] == "inet":
                result[-1]["addresses"].append(words[1])
            elif words[0] == "status:":
                result[-1]["active"] = words[1] == "active"
    return result


def linux_interface(name: str) -> dict:
    """One interface of Linux, from /sys and from `ip`, or from the kernel where that is not installed."""

    def number(file: str) -> int | None:
        try:
            with open(f"/sys/class/net/{name}/{file}") as stream:
                return int(stream.read())
        except (OSError, ValueError):
            return None

    carrier = number("carrier")
    status, text, _ = run_command("ip", "-o", "-4", "addr", "show", "dev", name)
    addresses = re.findall(r" inet ([\d.]+)", text) if status == 0 else first_address(name)
    return {
        "name": name,
        "addresses": addresses,
        "mtu": number("mtu"),
        "active": None if carrier is None else carrier == 1,
    }


def first_address(name: str) -> list:
    """Return the one address that the kernel reports for an interface's name."""
    import fcntl
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            reply = fcntl.ioctl(any_socket, 0x8915, struct.pack("256s", name.encode()[:15]))  # SIOCGIFADDR
        except OSError:
            return []
    return [socket.inet_ntoa(reply[20:24])]


def route(peer: str) -> dict:
    """Return the route to an address: interface, gateway (if any) and own source address."""
    answer: dict[str, str | None] = {"interface": None, "gateway": None, "source": None, "fault": None}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nothing_sent:
        try:
            nothing_sent.connect((peer, 9))
            answer["source"] = nothing_sent.getsockname()[0]
        except OSError as error:
            answer["fault"] = error.strerror
    if MAC:
        text = run_command("route", "-n", "get", peer)[1]
        patterns = {"interface": r"interface: (\S+)", "gateway": r"gateway: ([\d.]+)"}
    else:
        text = run_command("ip", "-o", "route", "get", peer)[1]
        patterns = {"interface": r" dev (\S+)", "gateway": r" via ([\d.]+)"}
    for key, pattern in patterns.items():
        match = re.search(pattern, text)
        answer[key] = match[1] if match else None
    if answer["interface"] is None:
        holders = [each["name"] for each in interfaces() if answer["source"] in each["addresses"]]
        answer["interface"] = holders[0] if holders else None
    return answer


def ping(peer: str) -> dict:
    """Send three packets; return how many were answered, and minimum and mean round trip in milliseconds."""
    patience = ("-W", "1000", "-t", "4") if MAC else ("-W", "1")
    status, text, complaint = run_command("ping", "-n", "-c", "3", "-i", "0.2", *patience, peer, seconds=6)
    counts = re.search(r"(\d+) packets transmitted, (\d+) (?:packets )?received", text)
    times = re.search(r"= ([\d.]+)/([\d.]+)/", text)
    return {
        "installed": status != 127,
        "sent": int(counts[1]) if counts else 0,
        "received": int(counts[2]) if counts else 0,
        "least": float(times[1]) if times else None,
        "mean": float(times[2]) if times else None,
        "fault": complaint or None,
    }


def tcp(peer: str, port: int) -> dict:
    """Check whether this program can open a TCP connection to an address; a refusal is an answer too."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as caller:
        caller.settimeout(2)
        begun = time.monotonic()
        try:
            fault = caller.connect_ex((peer, port))
        except OSError as error:
            fault = error.errno or -1
        took = (time.monotonic() - begun) * 1000
    if fault in (0, errno.ECONNREFUSED):
        return {"answered": True, "milliseconds": took, "fault": None}
    silent = fault in (errno.EAGAIN, errno.ETIMEDOUT)
    return {"answered": False, "milliseconds": None, "fault": "timed out" if silent else os.strerror(fault)}


def ports(ips: list, wanted: list) -> dict:
    """Return for each port why it cannot be listened on at one of the addresses; None if it can at all of them."""
    faults: dict[str, str | None] = {}
    for port in wanted:
        faults[str(port)] = None
        for ip in ips:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
                try:
                    listener.bind((ip, port))
                except OSError as error:
                    faults[str(port)] = error.strerror
    return faults


def clock() -> float:
    """Return seconds since 1970 by this machine's clock."""
    return time.time()


def resources(folder: str | None) -> dict:
    """Return bytes of free disk for runs, of total memory and of free memory."""
    place = os.path.expanduser(folder or "~")
    while not os.path.isdir(place) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if MAC:
        free = parse_vm_stat(run_command("vm_stat")[1])
    else:
        with open("/proc/meminfo") as stream:
            match = re.search(r"MemAvailable: +(\d+) kB", stream.read())
        free = int(match[1]) * 1024 if match else None
    return {"disk_free": shutil.disk_usage(place or "/").free, "memory": total, "memory_free": free}


def parse_vm_stat(text: str) -> int | None:
    """Return the bytes that macOS can give to a new process at once."""
    size = re.search(r"page size of (\d+) bytes", text)
    counts = re.findall(r"Pages (?:free|inactive|speculative|purgeable): +(\d+)\.", text)
    return int(size[1]) * sum(map(int, counts)) if size and counts else None


def ranks() -> list:
    """Return the running rank processes; a rank whose parent is the init process was left behind."""
    text = run_command("ps", "-axo", "pid=,ppid=,command=")[1]
    lines = [line.split(None, 2) for line in text.splitlines()]
    all_of_them = {int(words[0]): (int(words[1]), words[2]) for words in lines if len(words) == 3}
    result = []
    for pid, (parent, command) in all_of_them.items():
        if re.search(r"(-m thunder|/thunder) rank( |$)", command):
            above = all_of_them.get(parent, (0, ""))[1]
            adopted = parent == 1 or re.match(r"(\S*/)?(systemd|launchd|init)\b", above)
            result.append({"pid": pid, "command": command[:200], "orphan": bool(adopted) and "thunder" not in above})
    return result


def power() -> dict | None:
    """Return power source and minutes to sleep (0: never) of a Mac."""
    if not MAC:
        return None
    source = re.search(r"drawing from '([^']+)'", run_command("pmset", "-g", "batt")[1])
    settings = dict(re.findall(r"^ *(sleep|displaysleep|disksleep) +(\d+)", run_command("pmset", "-g")[1], re.M))
    return {"source": source[1] if source else None, **{key: int(value) for key, value in settings.items()}}


QUESTIONS = (software, interfaces, route, ping, tcp, ports, clock, resources, ranks, power, rdma)


def main() -> None:
    """Answer the question of the command line."""
    question, arguments = sys.argv[1], json.loads(sys.argv[2])
    answer = {each.__name__: each for each in QUESTIONS}[question](**arguments)
    print(f"\n{ANSWER_PREFIX}{json.dumps(answer)}", flush=True)


if __name__ == "__main__":
    main()

"""The program that a probe runs on a host: what it reads from the tools of macOS and Linux."""

import os
import socket
import sys
import time

import pytest

from thunder.cluster.health import probe_program

IFCONFIG = """lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384
\tinet 127.0.0.1 netmask 0xff000000
en0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\tether 3c:22:fb:00:00:01
\tinet6 fe80::1%en0 prefixlen 64 secured scopeid 0x4
\tinet 192.168.1.4 netmask 0xffffff00 broadcast 192.168.1.255
\tstatus: active
bridge0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 9000
\tinet 10.0.5.1 netmask 0xffffff00 broadcast 10.0.5.255
\tmember: en2 flags=3<LEARNING,DISCOVER>
\tstatus: inactive
"""
ROUTE = "   route to: 10.0.5.2\ndestination: 10.0.5.2\n  interface: en0\n    gateway: 192.168.1.1\n      flags: <UP>\n"
PING = "3 packets transmitted, 3 packets received, 0.0% packet loss\n"
PING += "round-trip min/avg/max/stddev = 0.261/0.402/0.5/0.1 ms"
LINUX_PING = (
    "3 packets transmitted, 2 received, 33% packet loss, time 400ms\nrtt min/avg/max/mdev = 0.041/0.072/0.1/0.02 ms"
)
PMSET = " Sleep On Power Button 1\n sleep                1 (sleep prevented by sharingd)\n"
PMSET += " displaysleep         10\n disksleep 0\n"
VM_STAT = "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
VM_STAT += "Pages free:  100.\nPages active: 7.\nPages inactive: 11.\n"


def mac(monkeypatch, **said):
    """Pretend to be a Mac whose commands say this (written after published samples, not captured from one)."""
    monkeypatch.setattr(probe_program, "MAC", True)
    monkeypatch.setattr(probe_program, "run_command", lambda *argv, **_: (0, said["_".join(argv[:2]).strip("-")], ""))


def test_ifconfig_of_a_mac():
    assert probe_program.parse_ifconfig(IFCONFIG) == [
        {"name": "lo0", "addresses": ["127.0.0.1"], "mtu": 16384, "active": None},
        {"name": "en0", "addresses": ["192.168.1.4"], "mtu": 1500, "active": True},
        {"name": "bridge0", "addresses": ["10.0.5.1"], "mtu": 9000, "active": False},
    ]


def test_the_route_of_a_mac(monkeypatch):
    mac(monkeypatch, **{"route_-n": ROUTE})
    answer = probe_program.route("127.0.0.1")
    assert (answer["interface"], answer["gateway"]) == ("en0", "192.168.1.1")


@pytest.mark.parametrize("text, received, least", [(PING, 3, 0.261), (LINUX_PING, 2, 0.041), ("", 0, None)])
def test_what_ping_says(monkeypatch, text, received, least):
    monkeypatch.setattr(probe_program, "run_command", lambda *argv, **_: (0, text, ""))
    answer = probe_program.ping("10.0.5.2")
    assert (answer["received"], answer["least"]) == (received, least)


def test_power_of_a_mac(monkeypatch):
    mac(monkeypatch, **{"pmset_-g": PMSET + "Now drawing from 'AC Power'\n"})
    assert probe_program.power() == {"source": "AC Power", "sleep": 1, "displaysleep": 10, "disksleep": 0}


def test_memory_of_a_mac():
    assert probe_program.parse_vm_stat(VM_STAT) == 16384 * 111
    assert probe_program.parse_vm_stat("") is None


@pytest.mark.parametrize(
    "parent, orphan",
    [
        ("1 0 /sbin/launchd", True),
        ("1 0 /usr/bin/python -m thunder launch", False),
        ("1 0 bash", True),
        ("5 1 /usr/lib/systemd/systemd --user", True),
        ("5 1 python -m thunder train", False),
        ("5 1 pytest", False),
    ],
)
def test_whose_ranks(monkeypatch, parent, orphan):
    number = parent.split()[0]
    lines = f"{parent}\n 9 {number} /x/python -P -m thunder rank /runs/a --job train\n 8 1 grep thunder ranks\n"
    monkeypatch.setattr(probe_program, "run_command", lambda *argv, **_: (0, lines, ""))
    assert [(each["pid"], each["orphan"]) for each in probe_program.ranks()] == [(9, orphan)]


def test_ports_tcp_and_clock_of_this_machine():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert probe_program.ports(["127.0.0.1"], [port])[str(port)] == os.strerror(
            98 if sys.platform == "linux" else 48
        )
        assert probe_program.tcp("127.0.0.1", port)["answered"]
    assert probe_program.tcp("127.0.0.1", port)["answered"], "a refusal is an answer"
    assert abs(probe_program.clock() - time.time()) < 1


IBV = "    device     \t   node GUID\n    ------     \t----------------\n    rdma_en2   \t2ce5a1b2c3d4e5f6\n"


@pytest.mark.parametrize(
    "status, text, devices, fault",
    [
        (0, IBV, ["rdma_en2"], None),
        (0, "    device node GUID\n", [], None),
        (127, "", [], "ibv_devices ended with 127"),
    ],
)
def test_rdma_devices(monkeypatch, status, text, devices, fault):
    monkeypatch.setattr(probe_program, "run_command", lambda *argv, **_: (status, text, ""))
    assert probe_program.rdma() == {"devices": devices, "fault": fault}


def test_the_chip(monkeypatch):
    mac(monkeypatch, **{"sysctl_-n": "Apple M4 Max\n"})
    assert probe_program.chip() == "Apple M4 Max"

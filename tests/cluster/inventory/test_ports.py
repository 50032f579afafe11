import os
import socket

import pytest

from thunder.cluster.inventory import ports
from thunder.errors import ClusterError


@pytest.fixture
def taken():
    """A port that a ring listens on: with SO_REUSEPORT, which lets a second run join it unnoticed."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_ports_are_different_free_and_below_the_systems_own():
    found = ports.free_ports(50)
    assert len(set(found)) == 50
    assert all(20000 <= port < 32768 for port in found)
    for port in found:
        ports.check_port_free("127.0.0.1", port)


def test_ports_are_random():
    assert ports.free_ports(8) != ports.free_ports(8)


def test_excluded_ports_are_left_out():
    everything = set(range(ports.FIRST_PORT, ports.END_PORT))
    keep = set(ports.free_ports(2))
    assert set(ports.free_ports(2, exclude=everything - keep)) == keep
    with pytest.raises(ClusterError, match="only 2 of 3 ports are free"):
        ports.free_ports(3, exclude=everything - keep)


def test_a_taken_port_is_passed_over(taken, monkeypatch):
    free = ports.free_ports(1)[0]
    monkeypatch.setattr(ports, "range", lambda *_: [taken, free], raising=False)
    assert ports.free_ports(1) == [free]


def test_a_taken_port_is_named_with_its_holder(taken):
    with pytest.raises(ClusterError) as caught:
        ports.check_port_free("127.0.0.1", taken)
    assert f"port {taken} on 127.0.0.1 is taken" in caught.value.message
    assert f"(pid {os.getpid()})" in caught.value.message


def test_an_address_of_another_machine():
    for ask in (lambda: ports.check_port_free("192.0.2.1", 20001), lambda: ports.free_ports(1, ip="192.0.2.1")):
        with pytest.raises(ClusterError, match="not an address of this machine"):
            ask()

"""Choose ports for the ring: random and free, below the range that the system uses for outgoing connections."""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Collection

import psutil

from thunder.errors import ClusterError

LOOPBACK = "127.0.0.1"
# Outgoing connections use ports from 32768 on Linux and 49152 on macOS; one in TIME_WAIT makes the ring's bind fail.
FIRST_PORT, END_PORT = 20000, 32768


def free_ports(count: int, exclude: Collection[int] = (), ip: str = LOOPBACK) -> list[int]:
    """Return `count` different random ports that are free on an address of this machine.

    Ports are random because MLX's ring joins two runs on the same ports into one, without an error and with wrong sums.

    Raises ClusterError if the address is not of this machine, or if too few ports are free.
    """
    free: list[int] = []
    for port in random_ports(END_PORT - FIRST_PORT, exclude):
        if len(free) == count:
            break
        fault = _bind_error(ip, port)
        if fault is None:
            free.append(port)
        elif fault.errno != errno.EADDRINUSE:
            check_port_free(ip, port)
    if len(free) < count:
        raise ClusterError(f"{ip}: only {len(free)} of {count} ports are free between {FIRST_PORT} and {END_PORT - 1}")
    return free


def random_ports(count: int, exclude: Collection[int] = ()) -> list[int]:
    """Return `count` different random ports of the range that runs use; they may be in use."""
    candidates = [port for port in range(FIRST_PORT, END_PORT) if port not in exclude]
    # not the global generator of `random`: a run may have seeded it
    secrets.SystemRandom().shuffle(candidates)
    return candidates[:count]


def check_port_free(ip: str, port: int) -> None:
    """Check that a rank on this machine can listen on a port.

    Raises ClusterError that names the port and, if the system tells, the process that holds it.
    """
    fault = _bind_error(ip, port)
    if fault is None:
        return
    if fault.errno == errno.EADDRINUSE:
        holder = _port_owner(port)
        raise ClusterError(
            f"port {port} on {ip} is taken{f' by {holder}' if holder else ''}",
            fix="end that process if an earlier run left it behind, or start again to get other ports",
        )
    if fault.errno == errno.EADDRNOTAVAIL:
        raise ClusterError(f"{ip} is not an address of this machine", fix="correct `ips` in the cluster file")
    raise ClusterError(f"{ip}:{port} cannot be listened on: {fault.strerror}")


def _bind_error(ip: str, port: int) -> OSError | None:
    """Bind without SO_REUSEPORT: with it (as the ring binds), a port on which another run listens looks free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((ip, port))
        except OSError as error:
            return error
    return None


def _port_owner(port: int) -> str | None:
    """Return 'python (pid 123)'; None if only another user or the administrator may know."""
    try:
        for each in psutil.net_connections("tcp"):
            if each.laddr and each.laddr.port == port and each.pid:
                return f"{psutil.Process(each.pid).name()} (pid {each.pid})"
    except psutil.Error:
        pass
    return None

"""Measure the throughput of every cable in both directions: one host sends for a moment, the other counts."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import combinations
from typing import Any, Protocol

from thunder.cluster.health.host_report import Throughput
from thunder.cluster.health.throughput_program import TOKEN_BYTES
from thunder.cluster.inventory.cluster_file import Host
from thunder.cluster.inventory.ports import random_ports
from thunder.units import Seconds

SEND_DURATION = Seconds(0.3)
PORT_COUNT = 3  # random ports: one may be in use by chance, all of them hardly
LinkDirection = tuple[str, str, str]  # from host, to host, to its address


class NoAnswer(Exception):
    """A question without an answer."""


class ProbeEndpoint(Protocol):
    """A host that answers questions."""

    host: Host

    def ask(self, question: str, arguments: dict[str, Any]) -> Any:
        """Return the answer; raises NoAnswer."""
        ...

    def reaches(self, peer: str, address: str) -> bool:
        """Whether the host got an answer from an address; waits until that is known."""
        ...


def start_throughput(ends: Sequence[ProbeEndpoint]) -> dict[LinkDirection, Future[Throughput | None]]:
    """Start measurements between all hosts; a result is None if the address does not answer at all.

    The two directions run one after the other, and no host takes part in two measurements at once.
    """
    busy = {end.host.name: threading.Lock() for end in ends}
    measurements: dict[LinkDirection, Future[Throughput | None]] = {}
    for one, other in combinations(ends, 2):
        directions = [
            direction
            for own, address in zip(one.host.ips, other.host.ips, strict=True)
            if own != address  # ranks on one machine
            for direction in ((one, other, address), (other, one, own))
        ]
        futures = [
            measurements.setdefault((s.host.name, r.host.name, address), Future()) for s, r, address in directions
        ]
        locks = busy[one.host.name], busy[other.host.name]
        threading.Thread(target=_measure_directions, args=(directions, futures, locks), daemon=True).start()
    return measurements


def _measure_directions(
    directions: Sequence[tuple[ProbeEndpoint, ProbeEndpoint, str]],
    futures: Sequence[Future[Throughput | None]],
    locks: tuple[threading.Lock, threading.Lock],
) -> None:
    """Measure both directions. Every pair takes its locks in host order, so that no two pairs wait for each other."""
    for (sender, receiver, address), future in zip(directions, futures, strict=True):
        try:
            if not sender.reaches(receiver.host.name, address):
                future.set_result(None)
                continue
            with locks[0], locks[1]:
                future.set_result(_measure_direction(sender, receiver, address))
        except NoAnswer as error:
            future.set_result(Throughput(None, str(error)))
        except BaseException as error:
            future.set_exception(error)


def _measure_direction(sender: ProbeEndpoint, receiver: ProbeEndpoint, address: str) -> Throughput:
    """Return bytes per second from one host to an address of the other."""
    meeting = {"ports": random_ports(PORT_COUNT), "token": secrets.token_hex(TOKEN_BYTES)}
    counted: Future[Throughput] = Future()

    def listen() -> None:
        try:
            counted.set_result(receiver.ask("receive", {"ip": address, **meeting}))
        except BaseException as error:
            counted.set_exception(error)

    threading.Thread(target=listen, daemon=True).start()
    sent: Throughput = sender.ask("send", {"peer": address, "seconds": SEND_DURATION, **meeting})
    if sent.fault and not counted.done():
        return sent  # no sender comes: do not wait for the receiver's timeout
    return counted.result()

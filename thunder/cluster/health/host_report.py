"""Typed reports of the hosts of a cluster: what each host answers about itself and about its links."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter


@dataclass(frozen=True)
class ConnectionFailure:
    """Why a host could not be reached. kind: as in `SshError`, or 'no python'."""

    kind: str
    message: str
    fix: str = ""


@dataclass(frozen=True)
class Software:
    """Versions (None: not installed) and the digest of requirements.lock ('(...)': why there is none)."""

    python: str
    system: str
    release: str
    packages: dict[str, str | None]
    lock: str | None
    chip: str | None = None


@dataclass(frozen=True)
class Interface:
    """A network interface. active: whether a cable is plugged in (None: unknown)."""

    name: str
    addresses: list[str]
    mtu: int | None
    active: bool | None


@dataclass(frozen=True)
class Route:
    """The route to an address. fault: why there is none."""

    interface: str | None
    gateway: str | None
    source: str | None
    fault: str | None


@dataclass(frozen=True)
class Ping:
    """Round-trip times in milliseconds."""

    installed: bool
    sent: int
    received: int
    least: float | None
    mean: float | None
    fault: str | None


@dataclass(frozen=True)
class TcpCheck:
    """Whether Python on the host can open a TCP connection to port 22 of an address; a refusal counts as an answer."""

    answered: bool
    milliseconds: float | None
    fault: str | None


@dataclass(frozen=True)
class Throughput:
    """Bytes per second, counted by the receiver. fault: why the value is unknown."""

    bytes_per_second: float | None
    fault: str | None


@dataclass(frozen=True)
class RdmaDevices:
    """The RDMA devices that a host lists. fault: why it lists none."""

    devices: list[str]
    fault: str | None


@dataclass(frozen=True)
class Resources:
    """Free disk space, memory and free memory, in bytes."""

    disk_free: int
    memory: int
    memory_free: int | None


@dataclass(frozen=True)
class RunningRank:
    """A rank process that runs on the host. orphan: its launcher is gone."""

    pid: int
    command: str
    orphan: bool


@dataclass(frozen=True)
class Power:
    """Power source of a Mac, and minutes until it sleeps (0: never; None: unknown)."""

    source: str | None = None
    sleep: int | None = None
    displaysleep: int | None = None
    disksleep: int | None = None


@dataclass(frozen=True)
class ClockOffset:
    """Seconds by which a host's clock is ahead of the launcher's, with an error of up to `within`."""

    ahead: float
    within: float


@dataclass(frozen=True)
class LinkReport:
    """A host's report on its link to one address of a peer. own: its own address on the same cable."""

    peer: str
    own: str
    address: str
    route: Route | None = None
    ping: Ping | None = None
    tcp: TcpCheck | None = None
    throughput: Throughput | None = None


@dataclass(frozen=True)
class HostReport:
    """All answers of a host. A field that is None has no answer; `unanswered` gives the reason."""

    host: str
    reach: ConnectionFailure | None = None
    software: Software | None = None
    interfaces: list[Interface] | None = None
    ports: dict[int, str | None] | None = None
    clock: ClockOffset | None = None
    resources: Resources | None = None
    ranks: list[RunningRank] | None = None
    power: Power | None = None
    rdma: RdmaDevices | None = None
    links: list[LinkReport] = field(default_factory=list)
    unanswered: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SurveyError:
    """A user's mistake that showed on a host. kind: the name of its class in thunder.errors."""

    kind: str
    message: str
    fix: str
    exit_code: int


SURVEY_PREFIX = "THUNDER-SURVEY "  # precedes a survey's answer


@dataclass(frozen=True)
class HostSurvey:
    """What a job finds on a host. facts: of model and data; error: why there are none.

    reach: the host was not reached; unanswered: it was reached but did not answer. home, project: folders on that host.
    measured: the chip's figures from `thunder calibrate` there.
    """

    host: str
    reach: ConnectionFailure | None = None
    unanswered: str | None = None
    error: SurveyError | None = None
    facts: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    lock: str | None = None
    chip: str | None = None
    cores: int | None = None
    memory: int | None = None
    disk_free: int | None = None
    home: str | None = None
    project: str | None = None
    measured: dict[str, Any] | None = None


ANSWER_TYPES: dict[str, TypeAdapter[Any]] = {
    "software": TypeAdapter(Software),
    "interfaces": TypeAdapter(list[Interface]),
    "route": TypeAdapter(Route),
    "ping": TypeAdapter(Ping),
    "tcp": TypeAdapter(TcpCheck),
    "ports": TypeAdapter(dict[int, str | None]),
    "clock": TypeAdapter(float),
    "resources": TypeAdapter(Resources),
    "ranks": TypeAdapter(list[RunningRank]),
    "power": TypeAdapter(Power | None),
    "rdma": TypeAdapter(RdmaDevices),
    "receive": TypeAdapter(Throughput),
    "send": TypeAdapter(Throughput),
}

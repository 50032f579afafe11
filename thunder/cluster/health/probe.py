"""Asking: one question at a time to every host of a cluster, on the host itself; a Reading holds only what was read."""

from __future__ import annotations

import functools
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from thunder.cluster.health import probe_program, throughput, throughput_program
from thunder.cluster.health.host_report import ANSWERS, Clock, LinkReading, Reach, Reading, Throughput
from thunder.cluster.inventory.cluster_file import Cluster, Host
from thunder.cluster.ssh import client
from thunder.units import Seconds

PROBE = Seconds(7)  # for one question; three pings take 1.5 s, of a Mac up to 4
ALL = Seconds(13)  # for all questions to all hosts, the way there included
AT_ONCE = 4  # questions to one host; sshd allows 10 sessions on a connection
SSH_PORT = 22
Connect = Callable[[Host], client.Connection]
Ports = Sequence[int] | Mapping[str, Sequence[int]]  # to ask every host for, or each by its name


class Unanswered(throughput.Unanswered):
    """A question that got no answer. reach: the host's Python is the reason, so no other question will do better."""

    def __init__(self, message: str, reach: Reach | None = None) -> None:
        super().__init__(message)
        self.reach = reach


def connect(host: Host) -> client.Connection:
    """The way to a host: none is needed to this machine."""
    return client.ThisMachine() if host.is_this_machine else client.connect(host.ssh or host.name)


def read_all(cluster: Cluster, ports: Ports = (), deadline: Seconds = ALL, connect: Connect = connect) -> list[Reading]:
    """Ask every host everything, all hosts at once; whatever has not answered by the deadline is left unanswered."""
    until = time.monotonic() + deadline
    wanted = ports if isinstance(ports, Mapping) else {host.name: ports for host in cluster.hosts}
    interviews = [Interview(host, cluster, wanted.get(host.name, ()), until, connect) for host in cluster.hosts]
    for interview in interviews:
        interview.start()
    measured = {way: _waited_for(future, until) for way, future in throughput.start(interviews).items()}
    return [interview.reading(measured) for interview in interviews]


def _waited_for(future: Future[Throughput | None], until: float) -> Throughput | None:
    try:
        return future.result(max(0.0, until - time.monotonic()))
    except TimeoutError:
        return Throughput(None, "not measured in time")
    except client.SshError:
        return None  # a host that is not reached; its reading says so


def interpreter(host: Host) -> str:
    """The Python to ask with: the one its ranks would run on. A command over ssh starts in the home folder."""
    if host.is_this_machine:
        return str(Path(host.python).expanduser()) if host.python else sys.executable
    python = host.python or (f"{host.folder.rstrip('/')}/.venv/bin/python" if host.folder else "python3")
    return python.removeprefix("~/")


@functools.cache
def program(question: str) -> str:
    """The text of the program that answers a question; the same for every host."""
    module = throughput_program if question in ("receive", "send") else probe_program
    return Path(module.__file__).read_text(encoding="utf-8")


def ask(connection: client.Connection, python: str, question: str, arguments: dict[str, Any], timeout: Seconds) -> Any:
    """The answer to one question; raises Unanswered."""
    try:
        done = connection.run([python, "-I", "-", question, json.dumps(arguments)], timeout, stdin=program(question))
    except client.SshError as error:
        raise Unanswered(error.message) from None
    # a login shell may print something of its own before
    answers = [line for line in done.stdout.splitlines() if line.startswith(probe_program.MARK)]
    if not answers:
        last = (done.stderr.strip().splitlines() or ["nothing was printed"])[-1][:300]
        missing = done.returncode in (126, 127)
        raise Unanswered(last, Reach("no python", f"{python} cannot be started: {last}") if missing else None)
    text = answers[-1].removeprefix(probe_program.MARK)
    try:
        return ANSWERS[question].validate_json(text)
    except ValidationError:
        raise Unanswered(f"the answer does not fit the question: {text[:100]}") from None


class Interview:
    """All questions to one host, each in a thread of its own that is left behind if it does not end."""

    def __init__(
        self, host: Host, cluster: Cluster, ports: Sequence[int], until: float, connect: Connect = connect
    ) -> None:
        self.host, self.cluster, self.until, self._connect = host, cluster, until, connect
        self._reach: Future[client.Connection] = Future()
        self._questions = dict(self._all_questions(ports))
        self._answers: dict[str, Future[Any]] = {key: Future() for key in self._questions}
        self._left = iter(list(self._questions))
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to ask."""
        threading.Thread(target=self._work, daemon=True).start()

    def ask(self, question: str, arguments: dict[str, Any]) -> Any:
        """The answer to a question out of turn; raises Unanswered, or SshError where the host is not reached."""
        connection = self._reach.result(self._seconds_left())
        return ask(connection, interpreter(self.host), question, arguments, Seconds(min(PROBE, self._seconds_left())))

    def reaches(self, peer: str, address: str) -> bool:
        """Whether an address answered; raises SshError where the host itself is not reached."""
        self._reach.result(self._seconds_left())
        try:
            ping = self._answers[f"ping {peer} {address}"].result(self._seconds_left())
            tcp = self._answers[f"tcp {peer} {address}"].result(self._seconds_left())
        except Unanswered:
            return False
        return bool(ping.received) or (not ping.installed and tcp.answered)

    def reading(self, measured: Mapping[throughput.Way, Throughput | None]) -> Reading:
        """Wait for the answers, not past the deadline, and put them together."""
        reach = self._wait_for_connection()
        if reach:
            return Reading(self.host.name, reach)
        found: dict[str, Any] = {}
        unanswered: dict[str, str] = {}
        for key, future in self._answers.items():
            try:
                found[key] = future.result(self._seconds_left())
            except Unanswered as error:
                unanswered[key] = str(error)
                reach = reach or error.reach
            except TimeoutError:
                unanswered[key] = "not answered in time"
        self._hang_up()
        return Reading(self.host.name, reach) if reach else self._assembled(found, unanswered, measured)

    def _seconds_left(self) -> float:
        return max(0.0, self.until - time.monotonic())

    def _all_questions(self, ports: Sequence[int]) -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
        folder = {"folder": self.host.folder}
        yield "clock", ("clock", {})  # first, while there is nothing else to do: it is timed
        yield from ((key, (key, {})) for key in ("interfaces", "ranks", "power"))
        for peer, _, address in links(self.cluster, self.host):
            yield f"route {peer} {address}", ("route", {"peer": address})
            yield f"ping {peer} {address}", ("ping", {"peer": address})
            yield f"tcp {peer} {address}", ("tcp", {"peer": address, "port": SSH_PORT})
        yield "software", ("software", folder)
        yield "resources", ("resources", {"folder": self.host.runs_folder})
        yield "ports", ("ports", {"ips": self.host.ips, "wanted": list(ports)})
        if self.cluster.backend == "jaccl":
            yield "rdma", ("rdma", {})

    def _work(self) -> None:
        try:
            connection = self._connect(self.host)
        except BaseException as error:
            self._reach.set_exception(error)
            return
        self._reach.set_result(connection)
        if not self._seconds_left():  # too late: nobody waits any more, so nobody else would close it
            connection.close()
            return
        for _ in range(AT_ONCE):
            threading.Thread(target=self._ask_on, daemon=True).start()

    def _ask_on(self) -> None:
        connection = self._reach.result()
        while True:
            with self._lock:
                key = next(self._left, None)
            if key is None:
                return
            try:
                self._answers[key].set_result(self._timed(connection, *self._questions[key]))
            except BaseException as error:
                self._answers[key].set_exception(error)

    def _timed(self, connection: client.Connection, question: str, arguments: dict[str, Any]) -> Any:
        seconds = Seconds(min(PROBE, self._seconds_left()))
        before = time.time()
        answer = ask(connection, interpreter(self.host), question, arguments, seconds)
        after = time.time()
        return Clock(answer - (before + after) / 2, (after - before) / 2) if question == "clock" else answer

    def _wait_for_connection(self) -> Reach | None:
        try:
            self._reach.result(self._seconds_left())
        except client.SshError as error:
            return Reach(error.kind, error.message, error.fix)
        except TimeoutError:
            return Reach("unreachable", f"{self.host.ssh}: no answer in time", f"ssh -v {self.host.ssh} true")
        return None

    def _hang_up(self) -> None:
        """Close the connection without waiting for it: what it is still busy with is what keeps it."""
        threading.Thread(target=self._reach.result().close, daemon=True).start()

    def _assembled(
        self,
        found: dict[str, Any],
        unanswered: dict[str, str],
        measured: Mapping[throughput.Way, Throughput | None],
    ) -> Reading:
        return Reading(
            host=self.host.name,
            links=[
                LinkReading(
                    peer,
                    own,
                    address,
                    route=found.get(f"route {peer} {address}"),
                    ping=found.get(f"ping {peer} {address}"),
                    tcp=found.get(f"tcp {peer} {address}"),
                    throughput=measured.get((self.host.name, peer, address)),
                )
                for peer, own, address in links(self.cluster, self.host)
            ],
            unanswered=unanswered,
            **{key: value for key, value in found.items() if " " not in key},
        )


def links(cluster: Cluster, host: Host) -> Iterator[tuple[str, str, str]]:
    """(peer, own address, the peer's address) for each cable from a host to each other one."""
    for peer in cluster.hosts:
        if peer.name != host.name:
            for own, address in itertools.zip_longest(host.ips, peer.ips):
                yield peer.name, own, address

"""Probe every host of a cluster: one question at a time, answered on the host itself, into a HostReport."""

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
from thunder.cluster.health.host_report import (
    ANSWER_TYPES,
    ClockOffset,
    ConnectionFailure,
    HostReport,
    LinkReport,
    Throughput,
)
from thunder.cluster.inventory.cluster_file import Cluster, Host
from thunder.cluster.ssh import client
from thunder.units import Seconds

QUESTION_TIMEOUT = Seconds(7)  # per question; three pings take 1.5 s, on a Mac up to 4 s
PROBE_TIMEOUT = Seconds(13)  # for all questions to all hosts, connecting included
MAX_CONCURRENT = 4  # questions to one host; sshd allows 10 sessions on a connection
SSH_PORT = 22
ConnectHost = Callable[[Host], client.Connection]
PortRequest = Sequence[int] | Mapping[str, Sequence[int]]  # ports to check on every host, or per host name


class QuestionFailed(throughput.NoAnswer):
    """A question without an answer. reach: the host's Python is the reason, so other questions fail too."""

    def __init__(self, message: str, reach: ConnectionFailure | None = None) -> None:
        super().__init__(message)
        self.reach = reach


def connect_host(host: Host) -> client.Connection:
    """Connect to a host; this machine needs no SSH."""
    return client.LocalConnection() if host.is_this_machine else client.connect_ssh(host.ssh or host.name)


def probe_hosts(
    cluster: Cluster, ports: PortRequest = (), deadline: Seconds = PROBE_TIMEOUT, connect: ConnectHost = connect_host
) -> list[HostReport]:
    """Ask all hosts all questions at once; questions without an answer at the deadline are marked unanswered."""
    until = time.monotonic() + deadline
    ports_by_host = ports if isinstance(ports, Mapping) else {host.name: ports for host in cluster.hosts}
    interviews = [HostProbe(host, cluster, ports_by_host.get(host.name, ()), until, connect) for host in cluster.hosts]
    for interview in interviews:
        interview.start()
    measured = {
        direction: _await_throughput(future, until)
        for direction, future in throughput.start_throughput(interviews).items()
    }
    return [interview.report(measured) for interview in interviews]


def _await_throughput(future: Future[Throughput | None], until: float) -> Throughput | None:
    try:
        return future.result(max(0.0, until - time.monotonic()))
    except TimeoutError:
        return Throughput(None, "not measured in time")
    except client.SshError:
        return None  # the host was not reached; its report says so


def host_python(host: Host) -> str:
    """Return the Python that a host's ranks run on. A command over SSH starts in the home folder."""
    if host.is_this_machine:
        return str(Path(host.python).expanduser()) if host.python else sys.executable
    python = host.python or (f"{host.folder.rstrip('/')}/.venv/bin/python" if host.folder else "python3")
    return python.removeprefix("~/")


@functools.cache
def probe_source(question: str) -> str:
    """Return the source text of the program that answers a question; the same for every host."""
    module = throughput_program if question in ("receive", "send") else probe_program
    return Path(module.__file__).read_text(encoding="utf-8")


def ask_host(
    connection: client.Connection, python: str, question: str, arguments: dict[str, Any], timeout: Seconds
) -> Any:
    """Return the answer to one question; raises QuestionFailed."""
    try:
        done = connection.run(
            [python, "-I", "-", question, json.dumps(arguments)], timeout, stdin=probe_source(question)
        )
    except client.SshError as error:
        raise QuestionFailed(error.message) from None
    # a login shell may print other text before the answer
    answers = [line for line in done.stdout.splitlines() if line.startswith(probe_program.ANSWER_PREFIX)]
    if not answers:
        last = (done.stderr.strip().splitlines() or ["nothing was printed"])[-1][:300]
        missing = done.returncode in (126, 127)
        raise QuestionFailed(
            last, ConnectionFailure("no python", f"{python} cannot be started: {last}") if missing else None
        )
    text = answers[-1].removeprefix(probe_program.ANSWER_PREFIX)
    try:
        return ANSWER_TYPES[question].validate_json(text)
    except ValidationError:
        raise QuestionFailed(f"the answer does not fit the question: {text[:100]}") from None


class HostProbe:
    """All questions to one host, each in its own daemon thread; a thread that does not end is abandoned."""

    def __init__(
        self, host: Host, cluster: Cluster, ports: Sequence[int], until: float, connect: ConnectHost = connect_host
    ) -> None:
        self.host, self.cluster, self.until, self._connect = host, cluster, until, connect
        self._reach: Future[client.Connection] = Future()
        self._questions = dict(self._all_questions(ports))
        self._answers: dict[str, Future[Any]] = {key: Future() for key in self._questions}
        self._remaining_keys = iter(list(self._questions))
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start asking."""
        threading.Thread(target=self._run, daemon=True).start()

    def ask(self, question: str, arguments: dict[str, Any]) -> Any:
        """Ask an additional question; raises QuestionFailed, or SshError if the host is not reached."""
        connection = self._reach.result(self._seconds_left())
        return ask_host(
            connection,
            host_python(self.host),
            question,
            arguments,
            Seconds(min(QUESTION_TIMEOUT, self._seconds_left())),
        )

    def reaches(self, peer: str, address: str) -> bool:
        """Whether an address answered; raises SshError if the host itself is not reached."""
        self._reach.result(self._seconds_left())
        try:
            ping = self._answers[f"ping {peer} {address}"].result(self._seconds_left())
            tcp = self._answers[f"tcp {peer} {address}"].result(self._seconds_left())
        except QuestionFailed:
            return False
        return bool(ping.received) or (not ping.installed and tcp.answered)

    def report(self, measured: Mapping[throughput.LinkDirection, Throughput | None]) -> HostReport:
        """Wait for the answers, until the deadline at most, and build the report."""
        reach = self._wait_for_connection()
        if reach:
            return HostReport(self.host.name, reach)
        answers: dict[str, Any] = {}
        unanswered: dict[str, str] = {}
        for key, future in self._answers.items():
            try:
                answers[key] = future.result(self._seconds_left())
            except QuestionFailed as error:
                unanswered[key] = str(error)
                reach = reach or error.reach
            except TimeoutError:
                unanswered[key] = "not answered in time"
        self._close_connection()
        return HostReport(self.host.name, reach) if reach else self._build_report(answers, unanswered, measured)

    def _seconds_left(self) -> float:
        return max(0.0, self.until - time.monotonic())

    def _all_questions(self, ports: Sequence[int]) -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
        folder = {"folder": self.host.folder}
        yield "clock", ("clock", {})  # first, while the host is otherwise idle: the answer is timed
        yield from ((key, (key, {})) for key in ("interfaces", "ranks", "power"))
        for peer, _, address in link_addresses(self.cluster, self.host):
            yield f"route {peer} {address}", ("route", {"peer": address})
            yield f"ping {peer} {address}", ("ping", {"peer": address})
            yield f"tcp {peer} {address}", ("tcp", {"peer": address, "port": SSH_PORT})
        yield "software", ("software", folder)
        yield "resources", ("resources", {"folder": self.host.runs_folder})
        yield "ports", ("ports", {"ips": self.host.ips, "wanted": list(ports)})
        if self.cluster.backend == "jaccl":
            yield "rdma", ("rdma", {})

    def _run(self) -> None:
        try:
            connection = self._connect(self.host)
        except BaseException as error:
            self._reach.set_exception(error)
            return
        self._reach.set_result(connection)
        if not self._seconds_left():  # past the deadline: nobody waits any more, so close the connection here
            connection.close()
            return
        for _ in range(MAX_CONCURRENT):
            threading.Thread(target=self._answer_questions, daemon=True).start()

    def _answer_questions(self) -> None:
        connection = self._reach.result()
        while True:
            with self._lock:
                key = next(self._remaining_keys, None)
            if key is None:
                return
            try:
                self._answers[key].set_result(self._ask_timed(connection, *self._questions[key]))
            except BaseException as error:
                self._answers[key].set_exception(error)

    def _ask_timed(self, connection: client.Connection, question: str, arguments: dict[str, Any]) -> Any:
        seconds = Seconds(min(QUESTION_TIMEOUT, self._seconds_left()))
        before = time.time()
        answer = ask_host(connection, host_python(self.host), question, arguments, seconds)
        after = time.time()
        return ClockOffset(answer - (before + after) / 2, (after - before) / 2) if question == "clock" else answer

    def _wait_for_connection(self) -> ConnectionFailure | None:
        try:
            self._reach.result(self._seconds_left())
        except client.SshError as error:
            return ConnectionFailure(error.kind, error.message, error.fix)
        except TimeoutError:
            return ConnectionFailure(
                "unreachable", f"{self.host.ssh}: no answer in time", f"ssh -v {self.host.ssh} true"
            )
        return None

    def _close_connection(self) -> None:
        """Close the connection without waiting: a command that still runs on it may block the close."""
        threading.Thread(target=self._reach.result().close, daemon=True).start()

    def _build_report(
        self,
        answers: dict[str, Any],
        unanswered: dict[str, str],
        measured: Mapping[throughput.LinkDirection, Throughput | None],
    ) -> HostReport:
        return HostReport(
            host=self.host.name,
            links=[
                LinkReport(
                    peer,
                    own,
                    address,
                    route=answers.get(f"route {peer} {address}"),
                    ping=answers.get(f"ping {peer} {address}"),
                    tcp=answers.get(f"tcp {peer} {address}"),
                    throughput=measured.get((self.host.name, peer, address)),
                )
                for peer, own, address in link_addresses(self.cluster, self.host)
            ],
            unanswered=unanswered,
            **{key: value for key, value in answers.items() if " " not in key},
        )


def link_addresses(cluster: Cluster, host: Host) -> Iterator[tuple[str, str, str]]:
    """Yield (peer, own address, the peer's address) for each cable from a host to each other host."""
    for peer in cluster.hosts:
        if peer.name != host.name:
            for own, address in itertools.zip_longest(host.ips, peer.ips):
                yield peer.name, own, address

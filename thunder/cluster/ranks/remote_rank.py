"""One rank on another host, controlled through that host's agent, with the interface of a local rank."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from thunder.cluster.health import probe
from thunder.cluster.inventory.rank_plan import RankPlan
from thunder.cluster.ranks.exit_causes import ERRORS_BY_EXIT_CODE, TAIL_LINES, RankEnd
from thunder.cluster.ranks.local_rank import OnEvent, OnLine
from thunder.cluster.ranks.protocol import (
    HEARTBEAT_INTERVAL,
    MESSAGE_PREFIX,
    PROTOCOL,
    SILENCE_TIMEOUT,
    MessageReader,
    encode_message,
    file_digests,
    text_lines,
    whole_number,
)
from thunder.cluster.ssh import client
from thunder.errors import ClusterError, Interrupted, RunFailed, ThunderError
from thunder.units import Seconds

READY_TIMEOUT = Seconds(60)  # for Python to start there, and for a rank of a lost launcher to end
EXIT_TIMEOUT = Seconds(3)
CHUNK_BYTES = 1 << 16
MAX_LINE = 4000
MAX_QUEUED_LINES = 1000  # queued for the screen; the log has all lines


class AgentStream(Protocol):
    """Bytes to and from an agent. `receive` never blocks: None if nothing has arrived, b"" at the end."""

    def fileno(self) -> int:
        """Return the descriptor for select."""
        ...

    def receive(self) -> bytes | None:
        """Return the bytes that have arrived."""
        ...

    def send(self, data: bytes) -> None:
        """Send bytes; raises OSError if the stream is closed."""
        ...

    def close(self) -> None:
        """Close the stream; the agent notices."""
        ...


class SshAgentStream:
    """A command on another host, over its own SSH connection."""

    def __init__(self, host: str, argv: Sequence[str]) -> None:
        """Start the command. Raises SshError if the host cannot be reached."""
        self._connection = client.connect_ssh(host)
        self._channel = self._connection.start(argv)

    def fileno(self) -> int:
        """See AgentStream."""
        return self._channel.fileno()

    def receive(self) -> bytes | None:
        """See AgentStream."""
        try:
            return self._channel.recv(CHUNK_BYTES)
        except TimeoutError:
            return None

    def send(self, data: bytes) -> None:
        """See AgentStream; bytes that the channel does not take are dropped: the agent then misses messages and ends
        the rank.
        """
        with contextlib.suppress(TimeoutError):
            self._channel.sendall(data)

    def close(self) -> None:
        """See AgentStream."""
        self._connection.close()


def open_agent_stream(plan: RankPlan) -> AgentStream:
    """Start the agent on a plan's host."""
    host = plan.host
    return SshAgentStream(host.ssh or host.name, [probe.host_python(host), "-P", "-m", "thunder", "agent"])


class RemoteRank:
    """A rank that an agent prepares; `go` starts it. Otherwise it is used like LocalRank."""

    def __init__(
        self,
        plan: RankPlan,
        log: Path,
        files: Mapping[str, str],
        opened: Callable[[RankPlan], AgentStream] = open_agent_stream,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start the agent and send it the plan; returns when the agent is ready.

        Raises ClusterError if the host, its Python or its folder cannot be used, Interrupted if `stopped` returns True.
        """
        self.plan, self.log = plan, log
        self.returncode: int | None = None
        self.failed_first = self.told_to_stop = self.interrupted = False
        self.error: dict[str, Any] | None = None
        self.lost = self.stalled = ""
        self._lines: deque[str] = deque(maxlen=MAX_QUEUED_LINES)
        self._end: dict[str, Any] = {}
        self._folder = ""
        self._reader = MessageReader(MESSAGE_PREFIX)
        self._stream = opened(plan)
        self._last_received = self._last_sent = time.monotonic()
        try:
            self._send(
                protocol=PROTOCOL,
                rank=plan.rank,
                host=plan.host.name,
                folder=plan.run_folder,
                argv=list(plan.argv),
                env=plan.env,
                addresses=list(plan.addresses),
                files=dict(files),
                transient=plan.transient,
            )
            self._wait_until_ready(stopped)
        except BaseException:
            self._stream.close()
            raise

    def go(self) -> None:
        """Start the rank."""
        self._send(do="go")

    def fileno(self) -> int:
        """Return the descriptor for select: readable when the agent sent something."""
        return self._stream.fileno()

    def read_events(self, on_event: OnEvent) -> bool:
        """Read the agent's messages; False if the channel has ended."""
        self._send_heartbeat()
        data = self._stream.receive()
        if data is None:
            return True
        self._last_received = time.monotonic()
        for message in self._reader.feed(data):
            self._handle_message(message, on_event)
        if not data and self.returncode is None:
            self._mark_lost("the connection to it was lost")
        return bool(data)

    def read_lines(self, on_line: OnLine) -> None:
        """Pass on the lines that the log gained."""
        for text in self._lines:
            on_line(self.plan.rank, text)
        self._lines.clear()

    def poll(self, on_event: OnEvent) -> int | None:
        """Return the exit code if the rank has ended; a host that is silent for too long counts as lost."""
        self._send_heartbeat()
        if self.returncode is None and time.monotonic() - self._last_received > SILENCE_TIMEOUT:
            self._mark_lost(
                f"no message arrived from it for {SILENCE_TIMEOUT:g} s: it is off, frozen, or its LAN is away"
            )
        return self.returncode

    def terminate(self) -> None:
        """Ask the rank to stop; it writes a checkpoint and ends."""
        self.told_to_stop = True
        self._send(do="terminate")

    def kill(self) -> None:
        """Kill the rank and every process that it started."""
        self.told_to_stop = self.told_to_stop or self.returncode is None
        self._send(do="kill")

    def dump(self) -> None:
        """Ask the rank to write its threads' stacks into its log."""
        self._send(do="dump")

    def close(self) -> None:
        """End the rank if it still runs, and close the connection."""
        if self.returncode is None:
            self.kill()
            until = time.monotonic() + EXIT_TIMEOUT
            while self.returncode is None and time.monotonic() < until:
                self.read_events(lambda rank, event: None)
                time.sleep(0.02)
            if self.returncode is None:
                self._mark_lost("it did not report the end of its rank")
        self._stream.close()

    def end(self) -> RankEnd:
        """Return how the rank ended; only after it ended."""
        assert self.returncode is not None
        return RankEnd(
            rank=self.plan.rank,
            host=self.plan.host.name,
            returncode=self.returncode,
            failed_first=self.failed_first,
            tail=text_lines(self._end.get("tail"), TAIL_LINES, MAX_LINE),
            log=self.log,
            error=self.error,
            told_to_stop=self.told_to_stop,
            interrupted=self.interrupted,
            malformed_events=(whole_number(self._end.get("malformed_events")) or 0) + self._reader.malformed,
            lost=self.lost,
            stalled=self.stalled,
            folder=self._folder,
            outputs=file_digests(self._end.get("left")),
        )

    def _handle_message(self, message: dict[str, Any], on_event: OnEvent) -> None:
        kind = message.get("say")
        if self.returncode is not None:
            return  # the rank has ended
        if kind == "event" and isinstance(event := message.get("event"), dict):
            if event.get("event") == "error":
                self.error = event
            on_event(self.plan.rank, event)
        elif kind == "log":
            text = str(message.get("text"))[:MAX_LINE]
            self._lines.append(text)
            # a full disk here must not end the run there; that host keeps its log too
            with contextlib.suppress(OSError), self.log.open("a", encoding="utf-8", errors="replace") as stream:
                stream.write(text + "\n")
        elif kind == "ended" and (code := whole_number(message.get("returncode"))) is not None:
            self._end, self.returncode = message, code
        elif kind == "refused":
            refused = _refusal_error(message)
            self.error = {"message": refused.message, "fix": refused.fix}
            self.returncode = refused.exit_code

    def _wait_until_ready(self, stopped: Callable[[], bool]) -> None:
        until = time.monotonic() + READY_TIMEOUT
        where = f"{self.plan.host.name}: the agent"
        while time.monotonic() < until:
            data = self._stream.receive()
            for message in self._reader.feed(data or b""):
                self._last_received = time.monotonic()
                if message.get("say") == "ready":
                    self._folder = str(message.get("folder"))
                    return
                if message.get("say") == "refused":
                    raise _refusal_error(message)
            if data == b"":
                output = self._reader.last_unmarked_line.decode(errors="replace")
                raise ClusterError(
                    f"{where} ended before it was ready: {output or 'it said nothing'}", fix=self._setup_hint()
                )
            if stopped():
                raise Interrupted("before all ranks were ready", fix="./launch.sh resume")
            self._send_heartbeat()
            time.sleep(0.01)
        raise ClusterError(f"{where} was not ready within {READY_TIMEOUT:g} s", fix=self._setup_hint())

    def _setup_hint(self) -> str:
        return f"ssh {self.plan.host.ssh} and run ./launch.sh setup in the project there; then thunder_status"

    def _send_heartbeat(self) -> None:
        now = time.monotonic()
        if now - self._last_sent > HEARTBEAT_INTERVAL:
            self._last_sent = now
            self._send(do="ping")

    def _send(self, **message: Any) -> None:
        # a closed channel is reported by the next read
        with contextlib.suppress(OSError):
            self._stream.send(encode_message(message))

    def _mark_lost(self, why: str) -> None:
        self.lost, self.returncode = why, -9
        self._stream.close()


def _refusal_error(message: dict[str, Any]) -> ThunderError:
    """Return the error that an agent sent."""
    code, text = whole_number(message.get("exit_code")), str(message.get("message") or "the agent gave no reason")
    return ERRORS_BY_EXIT_CODE.get(code or 1, RunFailed)(text[:MAX_LINE], str(message.get("fix") or "")[:MAX_LINE])


def prepare_remote_ranks(
    plans: Sequence[RankPlan],
    log_folder: Path,
    files: Mapping[str, str],
    opened: Callable[[RankPlan], AgentStream] = open_agent_stream,
    stopped: Callable[[], bool] = lambda: False,
) -> list[RemoteRank]:
    """Prepare all ranks on other hosts at once; if one fails, none is left waiting.

    Raises what RemoteRank raises, for the first rank that fails.
    """
    if not plans:
        return []
    with ThreadPoolExecutor(len(plans)) as pool:
        logs = [log_folder / f"{plan.host.name.replace('/', '_')}-rank-{plan.rank}.log" for plan in plans]
        futures = [pool.submit(RemoteRank, *each, files, opened, stopped) for each in zip(plans, logs, strict=True)]
    faults = [future.exception() for future in futures]
    for fault in faults:
        if fault is not None:
            for future, failed in zip(futures, faults, strict=True):
                if failed is None:
                    future.result().close()
            raise fault
    return [future.result() for future in futures]

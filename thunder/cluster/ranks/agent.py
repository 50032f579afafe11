"""The agent: starts one rank on its host for the launcher, reports on it, and ends it when the connection ends.

Its stdin and stdout are the SSH channel. It sends `ready` when the run's folder is prepared, starts the rank on `go`,
and ends the rank when its stdin ends or when no message arrives for a while, so that no orphan is left.
"""

from __future__ import annotations

import contextlib
import os
import platform
import selectors
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.cluster.inventory import openblas, ports
from thunder.cluster.inventory.cluster_file import Host
from thunder.cluster.inventory.rank_plan import RankPlan, system_env
from thunder.cluster.ranks import start_request
from thunder.cluster.ranks.local_rank import LocalRank
from thunder.cluster.ranks.protocol import (
    HEARTBEAT_INTERVAL,
    MESSAGE_PREFIX,
    SILENCE_TIMEOUT,
    MessageReader,
    encode_message,
)
from thunder.cluster.ranks.start_request import RUN_FILES, StartRequest
from thunder.config import REPOSITORY
from thunder.errors import ClusterError, ThunderError

CHUNK_BYTES = 1 << 16
MAX_READS = 16
# Limits of the send queue. Above the first, log lines and heartbeats are dropped, so that ranks never wait. Other
# messages, such as those about checkpoints, have a higher limit; the final message is always queued.
MAX_QUEUED_BYTES = 4 << 20
MAX_QUEUED_EVENT_BYTES = 4 * MAX_QUEUED_BYTES
MAX_LOG_LINE = 4000


def serve_rank(source: int, sink: int, environ: Mapping[str, str] = os.environ) -> int:
    """Run one rank for the launcher at the other end of two descriptors; returns the agent's exit code."""
    link = LauncherChannel(source, sink)
    try:
        try:
            with _prepare_run_folder(link.receive_request(), environ) as plan:
                _run_rank(plan, link, environ)
        except (ThunderError, OSError) as error:  # for example a log that cannot be read back
            named = error if isinstance(error, ThunderError) else ClusterError(f"the agent: {error}")
            link.send_message("refused", message=named.message, fix=named.fix, exit_code=named.exit_code)
            link.flush()
            return named.exit_code
    except LauncherLost:
        return 1
    return 0


def _run_rank(plan: RankPlan, link: LauncherChannel, environ: Mapping[str, str]) -> None:
    """Run the rank from the launcher's `go` to the final message; raises LauncherLost."""
    link.send_message("ready", folder=plan.run_folder, pid=os.getpid())
    if not link.wait_for_order("go"):
        return
    rank = LocalRank(plan, Path(plan.run_folder) / "logs" / f"rank-{plan.rank}.log", environ)
    try:
        _relay_rank(rank, link)
    finally:
        rank.close()
    link.send_rank_end(rank)


class LauncherLost(Exception):
    """The channel ended, or no message arrived through it for too long."""


class LauncherChannel:
    """The agent's end of the channel; no method blocks because the launcher does not read."""

    def __init__(self, source: int, sink: int) -> None:
        self.source, self._sink = source, sink
        os.set_blocking(source, False)
        os.set_blocking(sink, False)
        self._reader = MessageReader()
        self._queued = b""
        self._dropped = 0
        self._last_received = self._last_sent = time.monotonic()

    def send_message(self, kind: str, *, dispensable: bool = False, **values: Any) -> None:
        """Send a message; a dispensable one is dropped if too much is queued already."""
        most = MAX_QUEUED_BYTES if dispensable else MAX_QUEUED_EVENT_BYTES
        if len(self._queued) > most and kind != "ended":
            self._dropped += 1
            return
        self._queued += encode_message({"say": kind, **values}, MESSAGE_PREFIX)
        self.send_queued()

    def send_queued(self) -> None:
        """Send queued bytes, as many as the channel takes; raises LauncherLost if it is closed."""
        try:
            while self._queued:
                self._queued = self._queued[os.write(self._sink, self._queued[:CHUNK_BYTES]) :]
        except BlockingIOError:
            pass
        except OSError:
            raise LauncherLost from None

    def flush(self, seconds: float = 5) -> None:
        """Send all queued bytes, for `seconds` at most."""
        until = time.monotonic() + seconds
        with contextlib.suppress(LauncherLost):
            self.send_queued()
            while self._queued and time.monotonic() < until:
                time.sleep(0.02)
                self.send_queued()

    def receive_messages(self) -> list[dict[str, Any]]:
        """Return the messages that arrived; raises LauncherLost."""
        messages: list[dict[str, Any]] = []
        now = time.monotonic()
        try:
            # limit the reads, so that a launcher that never stops sending does not block the rank
            for _ in range(MAX_READS):
                data = os.read(self.source, CHUNK_BYTES)
                if not data:
                    raise LauncherLost
                self._last_received = now
                messages += self._reader.feed(data)
        except BlockingIOError:
            pass
        except OSError:
            raise LauncherLost from None
        if now - self._last_received > SILENCE_TIMEOUT:
            raise LauncherLost
        return messages

    def send_heartbeat(self) -> None:
        """Send a heartbeat if the last one is old enough, and queued bytes."""
        now = time.monotonic()
        if now - self._last_sent > HEARTBEAT_INTERVAL:
            self._last_sent = now
            self.send_message("alive", dispensable=True, left_out=self._dropped)
        self.send_queued()

    def wait_for_order(self, order: str) -> bool:
        """Wait for an order of the launcher: True for this one, False for `kill` or `terminate`."""
        while True:
            for message in self.receive_messages():
                if message.get("do") in (order, "kill", "terminate"):
                    return message["do"] == order
            self.send_heartbeat()
            time.sleep(0.02)

    def receive_request(self) -> StartRequest:
        """Wait for the launcher's request; raises UsageError if it cannot be understood."""
        while True:
            for message in self.receive_messages():
                if message.get("do") != "ping":
                    return start_request.parse_start_request(message)
            time.sleep(0.01)

    def send_rank_end(self, rank: LocalRank) -> None:
        """Send the final message."""
        end = rank.end()
        self.send_message(
            "ended",
            returncode=end.returncode,
            tail=[text[:MAX_LOG_LINE] for text in end.tail],
            malformed_events=end.malformed_events,
            log=str(end.log),
            left=_output_digests(Path(rank.plan.run_folder)) if rank.plan.rank == 0 else {},
        )
        self.flush()


# Files that the launcher has already, or that only a rank on this host can use.
NOT_COLLECTED = ("checkpoints", "logs", "faults", *RUN_FILES)


def _output_digests(folder: Path) -> dict[str, str]:
    """Return path inside the run's folder -> SHA-256, of the files that the run made."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    inside = {str(path.relative_to(folder)): path for path in files}
    return {
        name: digest.sha256_file(path)
        for name, path in inside.items()
        if not any(part.startswith(".") for part in Path(name).parts) and Path(name).parts[0] not in NOT_COLLECTED
    }


@contextlib.contextmanager
def _prepare_run_folder(request: StartRequest, environ: Mapping[str, str]) -> Any:
    """Create the run's folder and its files, lock it for this rank, and yield the plan with this host's paths.

    A transient run's folder is removed afterwards if it was made here.
    """
    for address in request.addresses:
        ip, _, port = address.rpartition(":")
        ports.check_port_free(ip, int(port))
    with contextlib.ExitStack() as held:
        try:
            folder = (REPOSITORY / Path(request.folder).expanduser()).absolute()
            if request.transient and not folder.exists():
                held.callback(shutil.rmtree, folder, ignore_errors=True)
            (folder / "logs").mkdir(parents=True, exist_ok=True)
            held.enter_context(_rank_lock(folder, request))
            for name, text in request.files.items():
                digest.write_atomically(folder / name, text)
        except (
            OSError,
            RuntimeError,
            ValueError,
        ) as error:  # RuntimeError: unknown home folder; ValueError: surrogate character in a name
            why = getattr(error, "strerror", None) or error
            raise ClusterError(
                f"{request.host}: {request.folder} cannot be made or written: {why}",
                fix="correct `runs` in the cluster file, or make room on that host's disk",
            ) from None
        yield _local_plan(request, folder, environ)


@contextlib.contextmanager
def _rank_lock(folder: Path, request: StartRequest) -> Any:
    """Wait until the rank of an agent that lost its launcher has ended, which takes seconds."""
    import fcntl

    with (folder / f".rank-{request.rank}.lock").open("a") as stream:
        until = time.monotonic() + SILENCE_TIMEOUT + 10
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise ClusterError(
                        f"{request.host}: rank {request.rank} of {folder.name} still runs there under another launcher",
                        fix="stop that launcher; thunder_status shows where ranks run",
                    ) from None
                time.sleep(0.1)
        yield


def _local_plan(request: StartRequest, folder: Path, environ: Mapping[str, str]) -> RankPlan:
    """Return the rank's plan with this host's paths and its system tuning."""
    here = platform.system()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    tuned = system_env(here, openblas.find_openblas(here), cores, environ)

    def local(text: str) -> str:
        inside = text == request.folder or text.startswith(request.folder + "/")
        return str(folder) + text[len(request.folder) :] if inside else text

    return RankPlan(
        rank=request.rank,
        host=Host(name=request.host, ips=[each.rpartition(":")[0] for each in request.addresses]),
        argv=(sys.executable, *(local(word) for word in request.argv[1:])),
        env=tuned | {key: local(value) for key, value in request.env.items()},
        cwd=REPOSITORY,
        addresses=tuple(request.addresses),
        run_folder=str(folder),
    )


def _relay_rank(rank: LocalRank, link: LauncherChannel) -> None:
    """Relay the rank's events and log until it ends, and follow the launcher's orders; raises LauncherLost."""
    orders = {"terminate": rank.terminate, "kill": rank.kill, "dump": rank.dump}

    def on_event(number: int, event: dict[str, Any]) -> None:
        link.send_message("event", dispensable=event.get("event") in ("beat", "step"), event=event)

    def on_line(number: int, text: str) -> None:
        link.send_message("log", dispensable=True, text=text[:MAX_LOG_LINE])

    with selectors.DefaultSelector() as selector:
        selector.register(link.source, selectors.EVENT_READ)
        selector.register(rank.events, selectors.EVENT_READ)
        while rank.poll(on_event) is None:
            for key, _ in selector.select(0.1):
                if key.fd == rank.events and not rank.read_events(on_event):
                    selector.unregister(rank.events)
            for message in link.receive_messages():
                if order := orders.get(str(message.get("do"))):
                    order()
            rank.read_lines(on_line)
            link.send_heartbeat()
    rank.read_lines(on_line)

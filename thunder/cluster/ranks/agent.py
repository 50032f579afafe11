"""The agent: runs beside a rank on its host, starts it, tells the launcher about it, and ends it with the connection.

Its stdin and stdout are the ssh channel. It says `ready` once the run's folder is prepared, starts the rank on `go`,
and ends it when its stdin ends, or when nothing has been heard for a while: no orphan is ever left.
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
from thunder.cluster.inventory.rank_plan import RankPlan, tuning
from thunder.cluster.ranks import start_request
from thunder.cluster.ranks.local_rank import RankProcess
from thunder.cluster.ranks.protocol import EVERY, MARK, SILENCE, Reader, line
from thunder.cluster.ranks.start_request import FILES, Request
from thunder.config import REPOSITORY
from thunder.errors import ClusterError, ThunderError

CHUNK = 1 << 16
READS_AT_ONCE = 16
# What waits to be sent; beyond it lines of the log and signs of life are left out, and the ranks never wait. Of what
# cannot be dispensed with, such as checkpoints made, more may wait; only the last message always does.
MOST_WAITING = 4 << 20
MOST_EVENTS = 4 * MOST_WAITING
LONGEST_LOG_LINE = 4000


def serve(source: int, sink: int, environ: Mapping[str, str] = os.environ) -> int:
    """Run one rank for the launcher at the other end of two descriptors; returns the agent's exit code."""
    link = Link(source, sink)
    try:
        try:
            with _prepared(link.first_request(), environ) as plan:
                _run(plan, link, environ)
        except (ThunderError, OSError) as error:  # such as a log that cannot be read back
            named = error if isinstance(error, ThunderError) else ClusterError(f"the agent: {error}")
            link.say("refused", message=named.message, fix=named.fix, exit_code=named.exit_code)
            link.flush()
            return named.exit_code
    except LauncherGone:
        return 1
    return 0


def _run(plan: RankPlan, link: Link, environ: Mapping[str, str]) -> None:
    """The rank, from the launcher's `go` to its last words; raises LauncherGone."""
    link.say("ready", folder=plan.run_folder, pid=os.getpid())
    if not link.wait_for("go"):
        return
    rank = RankProcess(plan, Path(plan.run_folder) / "logs" / f"rank-{plan.rank}.log", environ)
    try:
        _follow(rank, link)
    finally:
        rank.close()
    link.say_the_end(rank)


class LauncherGone(Exception):
    """The channel has ended, or nothing has come through it for too long."""


class Link:
    """The agent's end of the channel: nothing here ever waits for a launcher that does not read."""

    def __init__(self, source: int, sink: int) -> None:
        self.source, self._sink = source, sink
        os.set_blocking(source, False)
        os.set_blocking(sink, False)
        self._reader = Reader()
        self._waiting = b""
        self._left_out = 0
        self._heard = self._said = time.monotonic()

    def say(self, kind: str, *, dispensable: bool = False, **values: Any) -> None:
        """Send a message; one that can be dispensed with is left out where too much waits already."""
        most = MOST_WAITING if dispensable else MOST_EVENTS
        if len(self._waiting) > most and kind != "ended":
            self._left_out += 1
            return
        self._waiting += line({"say": kind, **values}, MARK)
        self.send_on()

    def send_on(self) -> None:
        """Send what waits, as far as the channel takes it; raises LauncherGone where it is closed."""
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._sink, self._waiting[:CHUNK]) :]
        except BlockingIOError:
            pass
        except OSError:
            raise LauncherGone from None

    def flush(self, seconds: float = 5) -> None:
        """Send all that waits, for so long at most."""
        until = time.monotonic() + seconds
        with contextlib.suppress(LauncherGone):
            self.send_on()
            while self._waiting and time.monotonic() < until:
                time.sleep(0.02)
                self.send_on()

    def hear(self) -> list[dict[str, Any]]:
        """The messages that have come; raises LauncherGone."""
        found: list[dict[str, Any]] = []
        now = time.monotonic()
        try:
            # one that never stops talking is heard in parts
            for _ in range(READS_AT_ONCE):
                data = os.read(self.source, CHUNK)
                if not data:
                    raise LauncherGone
                self._heard = now
                found += self._reader.feed(data)
        except BlockingIOError:
            pass
        except OSError:
            raise LauncherGone from None
        if now - self._heard > SILENCE:
            raise LauncherGone
        return found

    def alive(self) -> None:
        """A sign of life, now and then."""
        now = time.monotonic()
        if now - self._said > EVERY:
            self._said = now
            self.say("alive", dispensable=True, left_out=self._left_out)
        self.send_on()

    def wait_for(self, order: str) -> bool:
        """Until the launcher gives an order: True for this one, False for any other."""
        while True:
            for message in self.hear():
                if message.get("do") in (order, "kill", "terminate"):
                    return message["do"] == order
            self.alive()
            time.sleep(0.02)

    def first_request(self) -> Request:
        """What the launcher asks for; raises UsageError where that cannot be understood."""
        while True:
            for message in self.hear():
                if message.get("do") != "ping":
                    return start_request.read(message)
            time.sleep(0.01)

    def say_the_end(self, rank: RankProcess) -> None:
        """The last message."""
        end = rank.end()
        self.say(
            "ended",
            returncode=end.returncode,
            tail=[text[:LONGEST_LOG_LINE] for text in end.tail],
            malformed_events=end.malformed_events,
            log=str(end.log),
            left=_left_behind(Path(rank.plan.run_folder)) if rank.plan.rank == 0 else {},
        )
        self.flush()


# What the launcher has already, or what only a rank on this host can use.
STAYS = ("checkpoints", "logs", "faults", *FILES)


def _left_behind(folder: Path) -> dict[str, str]:
    """Path inside the run's folder -> SHA-256, of what the run made."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    inside = {str(path.relative_to(folder)): path for path in files}
    return {
        name: digest.sha256_file(path)
        for name, path in inside.items()
        if not any(part.startswith(".") for part in Path(name).parts) and Path(name).parts[0] not in STAYS
    }


@contextlib.contextmanager
def _prepared(asked: Request, environ: Mapping[str, str]) -> Any:
    """The run's folder with its files, held for this rank alone; yields the plan as this host means it.

    The folder of a run that leaves nothing behind is removed, if it was made here.
    """
    for address in asked.addresses:
        ip, _, port = address.rpartition(":")
        ports.check_free(ip, int(port))
    with contextlib.ExitStack() as held:
        try:
            folder = (REPOSITORY / Path(asked.folder).expanduser()).absolute()
            if asked.transient and not folder.exists():
                held.callback(shutil.rmtree, folder, ignore_errors=True)
            (folder / "logs").mkdir(parents=True, exist_ok=True)
            held.enter_context(_alone(folder, asked))
            for name, text in asked.files.items():
                digest.write_atomically(folder / name, text)
        except (OSError, RuntimeError, ValueError) as error:  # no such user's home; half a character
            why = getattr(error, "strerror", None) or error
            raise ClusterError(
                f"{asked.host}: {asked.folder} cannot be made or written: {why}",
                fix="correct `runs` in the cluster file, or make room on that host's disk",
            ) from None
        yield _plan(asked, folder, environ)


@contextlib.contextmanager
def _alone(folder: Path, asked: Request) -> Any:
    """Wait until the rank of an agent that lost its launcher has ended, as it does within seconds."""
    import fcntl

    with (folder / f".rank-{asked.rank}.lock").open("a") as stream:
        until = time.monotonic() + SILENCE + 10
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise ClusterError(
                        f"{asked.host}: rank {asked.rank} of {folder.name} still runs there under another launcher",
                        fix="stop that launcher; thunder_status shows where ranks run",
                    ) from None
                time.sleep(0.1)
        yield


def _plan(asked: Request, folder: Path, environ: Mapping[str, str]) -> RankPlan:
    """The rank's plan with this host's paths and what tunes this system."""
    here = platform.system()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    tuned = tuning(here, openblas.find(here), cores, environ)

    def local(text: str) -> str:
        inside = text == asked.folder or text.startswith(asked.folder + "/")
        return str(folder) + text[len(asked.folder) :] if inside else text

    return RankPlan(
        rank=asked.rank,
        host=Host(name=asked.host, ips=[each.rpartition(":")[0] for each in asked.addresses]),
        argv=(sys.executable, *(local(word) for word in asked.argv[1:])),
        env=tuned | {key: local(value) for key, value in asked.env.items()},
        cwd=REPOSITORY,
        addresses=tuple(asked.addresses),
        run_folder=str(folder),
    )


def _follow(rank: RankProcess, link: Link) -> None:
    """Until the rank has ended: pass its events and its log on, and do what the launcher says; raises LauncherGone."""
    orders = {"terminate": rank.terminate, "kill": rank.kill, "dump": rank.dump}

    def on_event(number: int, event: dict[str, Any]) -> None:
        link.say("event", dispensable=event.get("event") in ("beat", "step"), event=event)

    def on_line(number: int, text: str) -> None:
        link.say("log", dispensable=True, text=text[:LONGEST_LOG_LINE])

    with selectors.DefaultSelector() as selector:
        selector.register(link.source, selectors.EVENT_READ)
        selector.register(rank.events, selectors.EVENT_READ)
        while rank.poll(on_event) is None:
            for key, _ in selector.select(0.1):
                if key.fd == rank.events and not rank.read_events(on_event):
                    selector.unregister(rank.events)
            for message in link.hear():
                if order := orders.get(str(message.get("do"))):
                    order()
            rank.read_lines(on_line)
            link.alive()
    rank.read_lines(on_line)

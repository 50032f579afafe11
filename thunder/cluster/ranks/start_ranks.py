"""Start the ranks of a plan, here or through agents, monitor them to their end, and leave no process behind."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from thunder import digest
from thunder.cluster.inventory.ports import check_port_free
from thunder.cluster.inventory.rank_plan import HOSTFILE, RankPlan, format_hostfile
from thunder.cluster.ranks.exit_causes import RankEnd, run_error
from thunder.cluster.ranks.local_rank import LocalRank, OnEvent, OnLine
from thunder.cluster.ranks.remote_rank import AgentStream, RemoteRank, open_agent_stream, prepare_remote_ranks
from thunder.cluster.ranks.watchdog import Deadlines, Watchdog
from thunder.units import Seconds

__all__ = ["RankEnd", "StopRequest", "run_error", "run_ranks"]

Rank = LocalRank | RemoteRank

STOP_GRACE = Seconds(30)
# Between polls of the ranks if no event arrives.
POLL_INTERVAL = Seconds(0.1)
# A dying rank ends its peers within milliseconds, and may itself end later than they do. The others are told to stop
# only after this time, so that a rank's own error is not cut short, nor mistaken for the launcher's signal.
SETTLE_TIME = Seconds(1.0)
# A rank whose peer failed has nothing to save, and may hang in a collective operation, where SIGTERM has no effect.
GRACE_AFTER_FAILURE = Seconds(5)
# Time for a stalled rank to write its stacks before it is killed.
STACK_DUMP_TIME = Seconds(1.0)
# Closer requests count once: a Ctrl-C reaches the terminal's whole group, and a wrapper may pass it on again.
REQUEST_DEBOUNCE = Seconds(0.3)


class StopRequest:
    """A request to stop a run, from a signal handler or another thread: once = save and end, twice = end at once.

    regrouping: the ranks stop to start again on other hosts, without a request of the user.
    """

    def __init__(self) -> None:
        self.user_requests = 0
        self.regrouping = False
        self._last = float("-inf")

    @property
    def count(self) -> int:
        """The number of requests; 1 if the ranks are to regroup."""
        return max(self.user_requests, int(self.regrouping))

    def ask(self) -> None:
        """Add one request of the user."""
        now = time.monotonic()
        if now - self._last >= REQUEST_DEBOUNCE:
            self.user_requests += 1
            self._last = now


def run_ranks(
    plans: Sequence[RankPlan],
    *,
    log_folder: Path,
    on_event: OnEvent,
    on_line: OnLine | None = None,
    grace: Seconds = STOP_GRACE,
    stop: StopRequest | None = None,
    environ: Mapping[str, str] = os.environ,
    files: Mapping[str, str] | None = None,
    deadlines: Deadlines | None = None,
    open_stream: Callable[[RankPlan], AgentStream] = open_agent_stream,
) -> tuple[RankEnd, ...]:
    """Run every rank to its end and return how each ended; `run_error` makes an error of that.

    Each rank writes stdout and stderr to log_folder/rank-<r>.log, and JSON lines to the descriptor THUNDER_EVENTS_FD;
    `on_event(rank, event)` and `on_line(rank, line)` are called in this thread. When a rank fails, the others get
    SIGTERM, and SIGKILL soon after. SIGINT, SIGTERM and SIGHUP to this process, or `stop`, make all ranks save and end,
    with SIGKILL after `grace`; the second time they are killed at once. The ends then have `interrupted` set. A rank on
    another host is run by an agent there, with `files` (name -> text) in its run's folder. A rank that makes no
    progress within `deadlines` (None: no watchdog) is killed, with all others, and its end has `stalled` set. No rank
    survives this function; if this process is killed, orphan guards and agents end the ranks.

    Raises ClusterError if an address is in use or not of this machine, or if a rank's program or an agent cannot be
    started; Interrupted if `stop` is requested before the agents are ready.
    """
    stop = stop or StopRequest()
    log_folder.mkdir(parents=True, exist_ok=True)
    local, remote = [plan for plan in plans if not plan.is_remote], [plan for plan in plans if plan.is_remote]
    addresses = format_hostfile(plans)
    _write_ring_hostfile(local, addresses)
    ranks: list[Rank] = []
    with stop_on_signals(stop):
        try:
            sent = {**(files or {}), HOSTFILE: addresses}
            agents = prepare_remote_ranks(remote, log_folder, sent, open_stream, lambda: stop.user_requests > 0)
            ranks += agents
            for agent in agents:
                agent.go()
            for plan in local:
                ranks.append(LocalRank(plan, log_folder / f"rank-{plan.rank}.log", environ))
            ranks.sort(key=lambda rank: rank.plan.rank)
            _RankMonitor(ranks, grace, stop, deadlines).run(on_event, on_line)
        finally:
            for rank in ranks:
                rank.close()
    return tuple(rank.end() for rank in ranks)


def _write_ring_hostfile(plans: Sequence[RankPlan], addresses: str) -> None:
    """Write the file that MLX_HOSTFILE names, after a check that no other run uses the addresses here."""
    for path in {Path(plan.run_folder) / HOSTFILE for plan in plans if "MLX_RANK" in plan.env}:
        for plan in plans:
            for address in plan.addresses:
                ip, _, port = address.rpartition(":")
                check_port_free(ip, int(port))
        path.parent.mkdir(parents=True, exist_ok=True)
        digest.write_atomically(path, addresses)


@contextlib.contextmanager
def stop_on_signals(stop: StopRequest) -> Generator[None]:
    """Turn signals into stop requests, and restore the handlers afterwards; only the main thread can set handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stop.ask()

    # nohup makes a process ignore SIGHUP, so that it outlives its terminal: keep that
    numbers = [signal.SIGINT, signal.SIGTERM]
    numbers += [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


class _RankMonitor:
    """Monitors ranks until all have ended, and decides when they are told to stop and when they are killed."""

    def __init__(
        self, ranks: list[Rank], grace: Seconds, stop: StopRequest, deadlines: Deadlines | None = None
    ) -> None:
        self.ranks, self.grace, self.stop = ranks, grace, stop
        self.terminate_at = self.kill_at = float("inf")
        numbers = [rank.plan.rank for rank in ranks]
        self.watch = Watchdog(numbers, time.monotonic(), deadlines) if deadlines else None

    def run(self, on_event: OnEvent, on_line: OnLine | None) -> None:
        """Monitor until every rank has ended."""

        def noted(rank: int, event: dict[str, Any]) -> None:
            if self.watch and event.get("event") != "error":
                self.watch.record_event(rank, event, time.monotonic())
            on_event(rank, event)

        with selectors.DefaultSelector() as selector:
            for rank in self.ranks:
                selector.register(rank.fileno(), selectors.EVENT_READ, rank)
            while any(rank.returncode is None for rank in self.ranks):
                for key, _ in selector.select(POLL_INTERVAL):
                    # an empty read means that the rank closed its pipe, often just before it ends
                    if not key.data.read_events(noted):
                        selector.unregister(key.fd)
                self._note_ends(noted)
                if on_line is not None:
                    for rank in self.ranks:
                        rank.read_lines(on_line)
                now = time.monotonic()
                self._note_stalls(now)
                self._stop_those_left(now)

    def _note_ends(self, on_event: OnEvent) -> None:
        """Collect exit codes; the first failure starts the grace period of the others."""
        for rank in self.ranks:
            # a remote rank may have reported its end among its events, before this poll
            code = rank.poll(on_event) if rank.returncode is None else rank.returncode
            if code and not any(other.failed_first for other in self.ranks):
                rank.failed_first = True
                self.terminate_at = min(self.terminate_at, time.monotonic() + SETTLE_TIME)
            if rank.returncode is not None and self.watch:
                self.watch.mark_ended(rank.plan.rank)

    def _note_stalls(self, now: float) -> None:
        """End the attempt at the first overdue rank: no result of it or its peers can be used."""
        if self.watch is None or self.terminate_at < float("inf"):
            return
        stall = self.watch.overdue(now)
        if stall is not None:
            for rank in self.ranks:
                rank.dump()
                if rank.plan.rank == stall.rank and rank.returncode is None:
                    rank.stalled, rank.failed_first = stall.text, True
                rank.told_to_stop = rank.told_to_stop or rank.returncode is None
            self.terminate_at = self.kill_at = now + STACK_DUMP_TIME

    def _stop_those_left(self, now: float) -> None:
        running = [rank for rank in self.ranks if rank.returncode is None]
        if self.stop.count:
            for rank in running:
                rank.interrupted = True
            self.terminate_at = min(self.terminate_at, now)
        if now >= self.terminate_at:
            self.kill_at = min(
                self.kill_at, now + (self.grace if self.stop.count else min(self.grace, GRACE_AFTER_FAILURE))
            )
            for rank in running:
                if not rank.told_to_stop:
                    rank.terminate()
        if now >= self.kill_at or self.stop.count > 1:
            for rank in running:
                rank.kill()

"""Start the ranks of a plan on this machine, follow them to their end, and leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from thunder import digest
from thunder.cluster.ends import RankEnd, failure
from thunder.cluster.plan import RankPlan, ring_hostfile
from thunder.cluster.ports import check_free
from thunder.cluster.rank_process import OnEvent, OnLine, RankProcess
from thunder.units import Seconds

__all__ = ["RankEnd", "StopRequest", "failure", "run_ranks"]

GRACE = Seconds(30)
# Between looks at the ranks, where no event comes.
POLL = Seconds(0.1)
# A dying rank takes its peers with it within milliseconds, and may itself be the slower one to end: only after this
# are the others told to stop, so that a rank's own error is not cut short, nor mistaken for our signal.
SETTLE = Seconds(1.0)
# A rank whose peer has failed has nothing more to save, and may hang in a collective, where it answers no SIGTERM.
AFTER_FAILURE = Seconds(5)
# Requests closer than this are one: a Ctrl-C reaches the terminal's whole group, and a wrapper may pass it on again.
ONE_REQUEST = Seconds(0.3)


class StopRequest:
    """The wish to stop a run, from a signal handler or another thread: once = save and end, twice = end at once."""

    def __init__(self) -> None:
        self.times = 0
        self._last = float("-inf")

    def ask(self) -> None:
        """Ask once more."""
        now = time.monotonic()
        if now - self._last >= ONE_REQUEST:
            self.times += 1
            self._last = now


def run_ranks(
    plans: Sequence[RankPlan],
    *,
    log_folder: Path,
    on_event: OnEvent,
    on_line: OnLine | None = None,
    grace: Seconds = GRACE,
    stop: StopRequest | None = None,
    environ: Mapping[str, str] = os.environ,
) -> tuple[RankEnd, ...]:
    """Run every rank to its end and say how each ended; `failure` makes an error of that.

    Each rank writes stdout and stderr to log_folder/rank-<r>.log, and JSON lines to the descriptor THUNDER_EVENTS_FD;
    `on_event(rank, event)` and `on_line(rank, line)` are called in this thread. When a rank fails, the others get
    SIGTERM, and SIGKILL soon after. SIGINT, SIGTERM and SIGHUP to this process, or `stop`, make all ranks save and end,
    with SIGKILL after `grace`, and the second time kill them at once; the ends then say `interrupted`.
    However this function is left, no rank is; if this process is killed, `lifeline` ends the ranks.

    Raises ClusterError where an address is taken or not of this machine, or a rank's program cannot be started.
    """
    stop = stop or StopRequest()
    log_folder.mkdir(parents=True, exist_ok=True)
    _prepare_ring(plans)
    ranks: list[RankProcess] = []
    with _signals_ask(stop):
        try:
            for plan in plans:
                ranks.append(RankProcess(plan, log_folder / f"rank-{plan.rank}.log", environ))
            _Supervision(ranks, grace, stop).run(on_event, on_line)
        finally:
            for rank in ranks:
                rank.close()
    return tuple(rank.end() for rank in ranks)


def _prepare_ring(plans: Sequence[RankPlan]) -> None:
    """Write the file that MLX_HOSTFILE names, after a last look that no other run has taken the addresses."""
    for path in {plan.env["MLX_HOSTFILE"] for plan in plans if "MLX_HOSTFILE" in plan.env}:
        for plan in plans:
            for address in plan.addresses:
                ip, _, port = address.rpartition(":")
                check_free(ip, int(port))
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        digest.write_atomically(Path(path), ring_hostfile(plans))


@contextlib.contextmanager
def _signals_ask(stop: StopRequest) -> Generator[None]:
    """Turn signals into requests, and put the handlers back; only the main thread may set any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stop.ask()

    # nohup makes a process ignore SIGHUP, so that it outlives its terminal: that stays
    numbers = [signal.SIGINT, signal.SIGTERM]
    numbers += [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


class _Supervision:
    """Watches ranks until all have ended, and decides when they are told to stop and when they are killed."""

    def __init__(self, ranks: list[RankProcess], grace: Seconds, stop: StopRequest) -> None:
        self.ranks, self.grace, self.stop = ranks, grace, stop
        self.terminate_at = self.kill_at = float("inf")

    def run(self, on_event: OnEvent, on_line: OnLine | None) -> None:
        """Until every rank has ended."""
        with selectors.DefaultSelector() as selector:
            for rank in self.ranks:
                selector.register(rank.events, selectors.EVENT_READ, rank)
            while any(rank.returncode is None for rank in self.ranks):
                for key, _ in selector.select(POLL):
                    # an empty read is a rank that closed its pipe, often just before it ends
                    if not key.data.read_events(on_event):
                        selector.unregister(key.fd)
                self._note_ends(on_event)
                if on_line is not None:
                    for rank in self.ranks:
                        rank.read_lines(on_line)
                self._stop_those_left(time.monotonic())

    def _note_ends(self, on_event: OnEvent) -> None:
        """Collect exit codes; the first failure starts the clock for the others."""
        for rank in self.ranks:
            if rank.returncode is None and rank.poll(on_event) and not any(other.first for other in self.ranks):
                rank.first = True
                self.terminate_at = min(self.terminate_at, time.monotonic() + SETTLE)

    def _stop_those_left(self, now: float) -> None:
        running = [rank for rank in self.ranks if rank.returncode is None]
        if self.stop.times:
            for rank in running:
                rank.interrupted = True
            self.terminate_at = min(self.terminate_at, now)
        if now >= self.terminate_at:
            self.kill_at = min(self.kill_at, now + (self.grace if self.stop.times else min(self.grace, AFTER_FAILURE)))
            for rank in running:
                if not rank.told_to_stop:
                    rank.terminate()
        if now >= self.kill_at or self.stop.times > 1:
            for rank in running:
                rank.kill()

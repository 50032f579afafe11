"""One rank as a process on this machine: its pipes, log, signals and end."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from thunder.cluster.inventory.rank_plan import RankPlan
from thunder.cluster.ranks import orphan_guard
from thunder.cluster.ranks.exit_causes import RankEnd, log_tail
from thunder.errors import ClusterError

EVENTS_VARIABLE = "THUNDER_EVENTS_FD"
OnEvent = Callable[[int, dict[str, Any]], None]
OnLine = Callable[[int, str], None]

CHUNK_BYTES = 1 << 16
MAX_EVENT_BYTES = 1 << 20
# How much of a log is read at a time for the screen; a faster rank's lines are skipped there, not in its log.
MAX_LOG_READ_BYTES = 1 << 18
# warnings about malformed events; further ones are only counted
MAX_WARNINGS = 3

logger = logging.getLogger(__name__)


class LocalRank:
    """A started rank. Its owner calls `read_events`, `read_lines` and `poll` repeatedly, then `close`."""

    def __init__(self, plan: RankPlan, log: Path, environ: Mapping[str, str]) -> None:
        """Start the rank in its own session: a Ctrl-C in the terminal reaches only the launcher, which passes it on.

        Python opens pipes so that no later program inherits them; each rank gets only its own two ends. Otherwise the
        end of a launcher or of a rank would go unnoticed while another rank still held the pipe.

        Raises ClusterError if its program or its folder does not exist.
        """
        self.plan, self.log = plan, log
        self.returncode: int | None = None
        self.failed_first = self.told_to_stop = self.interrupted = False
        self.error: dict[str, Any] | None = None
        self.stalled = ""
        self.malformed_events = 0
        self._event_bytes, self._line_bytes = b"", b""
        self.events, events_out = os.pipe()
        lifeline_in, self.lifeline = os.pipe()
        os.set_blocking(self.events, False)
        try:
            self._start(environ, events_out, lifeline_in)
        except OSError as error:
            self._close_pipes()
            raise ClusterError(
                f"rank {plan.rank} on {plan.host.name} cannot be started: {error.strerror}: {error.filename}",
                fix="correct this host's `python` or `folder` in the cluster file",
            ) from None
        finally:
            os.close(events_out)
            os.close(lifeline_in)

    def _start(self, environ: Mapping[str, str], events_out: int, lifeline_in: int) -> None:
        env = self.plan.environment(environ) | {
            EVENTS_VARIABLE: str(events_out),
            orphan_guard.LIFELINE_VARIABLE: str(lifeline_in),
        }
        # a file, not a pipe: a rank that prints a lot must not block if nobody reads
        with self.log.open("ab") as stream:
            self._log_start = self._log_shown = stream.tell()
            self.process = subprocess.Popen(
                [os.path.expanduser(self.plan.argv[0]), *self.plan.argv[1:]],
                cwd=self.plan.cwd.expanduser() if self.plan.cwd else None,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                pass_fds=(events_out, lifeline_in),
                start_new_session=True,
            )
        try:
            self._guard = orphan_guard.start_guard(self.process.pid, lifeline_in, env["THUNDER_JOB_ID"])
        except OSError:
            self.kill()
            self.process.wait()
            raise

    def fileno(self) -> int:
        """Return the descriptor for select: readable when the rank sent an event or ended."""
        return self.events

    def terminate(self) -> None:
        """Ask the rank to stop; it writes a checkpoint and ends."""
        self.told_to_stop = True
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()

    def dump(self) -> None:
        """Ask the rank to write its threads' stacks into its log; this works even if it is stuck in C code."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        """Kill the rank and every process that it started."""
        self.told_to_stop = self.told_to_stop or self.returncode is None
        # macOS returns EPERM for a group that contains only zombies
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def poll(self, on_event: OnEvent) -> int | None:
        """Return the exit code if the rank has ended; then kill its remaining processes and pass on its last events."""
        if self.returncode is None:
            code = self.process.poll()
            if code is not None:
                self.returncode = code
                # its process id is the group's id, which no new process gets while the group has members
                self.kill()
                self._dismiss_guard()
                while self.read_events(on_event):
                    pass
        return self.returncode

    def read_events(self, on_event: OnEvent) -> bool:
        """Pass on the events that arrived; False if there is nothing more to read now."""
        try:
            data = os.read(self.events, CHUNK_BYTES)
        except BlockingIOError:
            data = None
        if data:
            *lines, self._event_bytes = (self._event_bytes + data).split(b"\n")
            if len(self._event_bytes) > MAX_EVENT_BYTES:
                lines, self._event_bytes = [*lines, self._event_bytes[:CHUNK_BYTES]], b""
        else:
            # at the end, a complete line without its newline counts too
            ended = data is not None or self.returncode is not None
            lines, self._event_bytes = ([self._event_bytes], b"") if ended else ([], self._event_bytes)
        for line in lines:
            self._pass_on(line, on_event)
        return bool(data)

    def _pass_on(self, line: bytes, on_event: OnEvent) -> None:
        if not line.strip():
            return
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            self.malformed_events += 1
            # nobody may read an agent's stderr: if it fills up, the agent blocks, and then the rank
            if self.malformed_events <= MAX_WARNINGS:
                logger.warning("rank %d sent an event that is not a JSON object: %r", self.plan.rank, line[:200])
            return
        if event.get("event") == "error":
            self.error = event
        on_event(self.plan.rank, event)

    def read_lines(self, on_line: OnLine) -> None:
        """Pass on the lines that the log gained since the last call."""
        with self.log.open("rb") as stream:
            behind = stream.seek(0, os.SEEK_END) - self._log_shown
            if behind > 2 * MAX_LOG_READ_BYTES:
                skipped = behind - MAX_LOG_READ_BYTES
                self._log_shown, self._line_bytes = self._log_shown + skipped, b""
                on_line(self.plan.rank, f"... {skipped} bytes left out, see {self.log}")
            stream.seek(self._log_shown)
            data = stream.read(behind)
        self._log_shown += len(data)
        *lines, self._line_bytes = (self._line_bytes + data).split(b"\n")
        # a line that does not end is passed on in pieces
        if self._line_bytes and (self.returncode is not None or len(self._line_bytes) > MAX_LOG_READ_BYTES):
            lines, self._line_bytes = [*lines, self._line_bytes], b""
        for line in lines:
            on_line(self.plan.rank, line.decode("utf-8", "replace").rstrip("\r"))

    def close(self) -> None:
        """End the rank if it still runs, and close its pipes; leaves no zombie."""
        if self.returncode is None:
            self.kill()
            self.returncode = self.process.wait()
            self._dismiss_guard()
        self._close_pipes()

    def _dismiss_guard(self) -> None:
        self._guard.kill()
        self._guard.wait()

    def _close_pipes(self) -> None:
        for fd in (self.events, self.lifeline):
            os.close(fd)

    def end(self) -> RankEnd:
        """Return how the rank ended; only after it ended."""
        assert self.returncode is not None
        with self.log.open("rb") as stream:
            stream.seek(max(self._log_start, stream.seek(0, os.SEEK_END) - CHUNK_BYTES))
            log = stream.read().decode("utf-8", "replace")
        return RankEnd(
            rank=self.plan.rank,
            host=self.plan.host.name,
            returncode=self.returncode,
            failed_first=self.failed_first,
            tail=log_tail(log),
            log=self.log,
            error=self.error,
            told_to_stop=self.told_to_stop,
            interrupted=self.interrupted,
            malformed_events=self.malformed_events,
            stalled=self.stalled,
        )

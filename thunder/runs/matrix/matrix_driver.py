"""Drive a matrix: rehearse each condition, place runs on hosts, resume interrupted runs, seal complete ones.

All state is in files. Each run is a process of its own that holds a lock. A driver that starts after a crash finds
running processes by their locks, waits for them, and starts the others.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thunder import digest
from thunder.errors import GateError, Interrupted, RunFailed, ThunderError, UsageError, combined_error
from thunder.runs.bundles import bundle
from thunder.runs.bundles.bundle_checks import SPLIT, json_object
from thunder.runs.bundles.scored_rows import PREDICTIONS
from thunder.runs.matrix import matrix_spec
from thunder.runs.matrix.matrix_spec import MatrixCell
from thunder.runs.matrix.matrix_status import LAUNCHER, CellState, MatrixLedger, is_held, last_words
from thunder.runs.records.run_record import CONFIG

POLL = 0.5  # seconds
GRACE = 60.0  # seconds that runs have to save and stop
REHEARSAL = 3600.0  # seconds that a rehearsal may take
Log = Callable[[str], None]


@dataclass(frozen=True)
class HostSlot:
    """A place for one run at a time: one host, or all hosts together. arguments: the flags that select it."""

    name: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class DriverOptions:
    """Options of a driver.

    command: the training command, before its flags. environ: its environment. only: run these alone; empty means all.
    """

    command: Sequence[str]
    places: Sequence[HostSlot]
    environ: Mapping[str, str]
    only: Collection[str] = ()
    rehearse: bool = True


def run_matrix(ledger: MatrixLedger, how: DriverOptions, say: Log = lambda text: None) -> list[CellState]:
    """Run every cell of a matrix to its end, as far as possible; return their final states.

    Raises RunFailed that lists the runs that failed, GateError where a rehearsal leaves out artifacts, UsageError where
    another process drives this matrix, Interrupted where the driver was asked to stop.
    """
    (ledger.folder / "cells").mkdir(parents=True, exist_ok=True)
    with _lock_matrix(ledger.folder):
        driver = MatrixDriver(ledger, how, say)
        try:
            driver.rehearse()
            driver.go()
        except KeyboardInterrupt:
            driver.stop()
            raise Interrupted("the matrix; its runs saved their state", "run the same command to continue") from None
    failed = [
        f"{status.cell.id}: {status.state}: {status.why or driver.unsealed.get(status.cell.id) or 'no reason recorded'}"
        for status in driver.states()
        if status.state != "sealed"
    ]
    if failed:
        raise combined_error(
            RunFailed, f"{len(failed)} runs of the matrix are not done:", failed, "thunder matrix resume"
        )
    return driver.states()


@contextlib.contextmanager
def _lock_matrix(folder: Path):
    with (folder / "driver.lock").open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{folder.name} is being run by another process", fix="wait for it") from None
        yield


def assign_hosts(
    states: Sequence[CellState], places: Sequence[HostSlot], tried: Collection[str]
) -> list[tuple[MatrixCell, HostSlot]]:
    """Choose which runs start now and where: one for each free slot, in the matrix' order (pure).

    A run that has begun continues on its host, where its checkpoints are; a run in `tried` is not started again.
    """
    busy = {status.place for status in states if status.state == "running"}
    free = [place for place in places if place.name not in busy]
    chosen = []
    for status in states:
        if status.state not in ("waiting", "stopped", "failed") or status.cell.id in tried:
            continue
        begun = (
            status.place if status.state != "waiting" and any(status.place == place.name for place in places) else None
        )
        place = next((host for host in free if begun in (None, host.name)), None)
        if place:
            free.remove(place)
            chosen.append((status.cell, place))
    return chosen


class MatrixDriver:
    """The work of one process on a matrix."""

    def __init__(self, ledger: MatrixLedger, how: DriverOptions, say: Log) -> None:
        self.ledger, self.how, self.say = ledger, how, say
        self.tried: set[str] = set()
        self.unsealed: dict[str, str] = {}
        self.children: list[subprocess.Popen] = []

    def states(self) -> list[CellState]:
        """The states of the runs that this driver runs."""
        only = self.how.only
        return [
            status
            for status in self.ledger.states()
            if not only or status.cell.id in only or status.cell.run.id in only
        ]

    def go(self) -> None:
        """Start, wait for and seal runs until none is left."""
        reported: dict[str, str] = {}
        while True:
            states = self.states()
            for status in states:
                if status.state == "done":
                    self.finish(status)
                if reported.get(status.cell.id) != status.state:
                    reported[status.cell.id] = status.state
                    self.say(f"{status.cell.id}: {status.state}{f' on {status.place}' if status.place else ''}")
            starts = assign_hosts(states, self.how.places, self.tried)
            for cell, place in starts:
                self.start(cell, place)
            if not starts and not any(status.state == "running" for status in states):
                return
            self._reap()
            time.sleep(POLL)

    def start(self, cell: MatrixCell, place: HostSlot) -> None:
        """Start or resume a run; the launch record is written first."""
        self.tried.add(cell.id)
        folder = self.ledger.run_folder(cell)
        name = matrix_spec.folder_name(self.ledger.plan, cell)
        flags = matrix_spec.cell_arguments(cell.options)
        argv = [*self.how.command, *flags, "--run-name", name, *place.arguments]
        launched = {
            "matrix": self.ledger.plan.id,
            "matrix_sha256": self.ledger.plan.digest(),
            "cell": cell.id,
            "argv": argv,
            "sha256": digest.sha256_json([*self.how.command, *flags]),
            "options_sha256": cell.sha256,
            "place": place.name,
            "started": round(time.time(), 3),
        }
        digest.write_json(self.ledger.path(cell, "json"), launched)
        if (folder / CONFIG).is_file():
            argv = [*self.how.command, "--resume", name, *place.arguments]
        self._spawn(argv, self.ledger.path(cell, "lock"))

    def _spawn(self, argv: Sequence[str], path: Path) -> subprocess.Popen:
        """Start a process in its own session; it holds a lock until it ends, and its output goes to a file."""
        with path.open("a+b") as lock, path.with_suffix(".out").open("ab") as out:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(self.how.environ),
                pass_fds=[lock.fileno()],
                start_new_session=True,
            )
        self.children.append(child)
        return child

    def finish(self, status: CellState) -> None:
        """Add the launch record to a run that is done, and seal it; report an incomplete run and leave it unsealed."""
        if status.cell.id in self.unsealed:
            return
        try:
            if bundle.manifest_digest(status.folder) is None and not (status.folder / LAUNCHER).exists():
                digest.write_json(status.folder / LAUNCHER, self.ledger.launched(status.cell))
            bundle.seal_bundle(status.folder)
        except ThunderError as error:
            self.unsealed[status.cell.id] = f"not sealed: {' '.join(error.message.split())}"
            self.say(f"{status.cell.id}: {self.unsealed[status.cell.id]}")

    def rehearse(self) -> None:
        """Run each condition briefly: its artifacts must be complete before a long run starts. Once for each condition.

        Raises GateError with what the first condition left out.
        """
        short = self.ledger.plan.rehearsal
        if short is None or not self.how.rehearse:
            return
        todo = {status.cell.condition: status.cell for status in reversed(self.states()) if status.state == "waiting"}
        for condition, cell in reversed(todo.items()):
            note = self.ledger.folder / "rehearsals" / f"{condition[:16]}.json"
            if note.is_file() and json_object(note, []).get("condition") == condition:
                continue
            note.parent.mkdir(exist_ok=True)
            self.say(f"{cell.run.id}: rehearsing")
            options = {**cell.options, "iters": short.iters, "test_rows": short.test_rows}
            if faults := self._rehearsed(matrix_spec.cell_arguments(options), cell, note.with_suffix(".lock")):
                headline = f"run {cell.run.id}: a rehearsal of {short.iters} iterations did not write valid artifacts:"
                fix = f"see {note.with_suffix('.out')}; nothing was started"
                raise combined_error(GateError, headline, faults, fix=fix)
            digest.write_json(note, {"condition": condition, "run": cell.run.id, "time": round(time.time(), 3)})

    def _rehearsed(self, flags: list[str], cell: MatrixCell, lock: Path) -> list[str]:
        """Return the faults of a rehearsal's artifacts."""
        name = f"{matrix_spec.folder_name(self.ledger.plan, cell)}.rehearsal"
        folder = self.ledger.root / name
        until = time.monotonic() + REHEARSAL
        while is_held(lock) and time.monotonic() < until:  # a child of an earlier driver can still hold the lock
            time.sleep(POLL)
        shutil.rmtree(folder, ignore_errors=True)
        child = self._spawn([*self.how.command, *flags, "--run-name", name, *self.how.places[0].arguments], lock)
        try:
            code = child.wait(REHEARSAL)
        except subprocess.TimeoutExpired:
            child.kill()
            return [f"it did not end within {REHEARSAL:.0f} s"]
        if code:
            return [f"its command ended with exit code {code}: {last_words(lock.with_suffix('.out'))}"]
        faults = bundle.bundle_faults(folder)
        required = [PREDICTIONS, *self.ledger.plan.artifacts_required]
        faults += [f"{each}: missing" for each in required if not (folder / each).is_file()]
        if not faults and not (folder / PREDICTIONS).stat().st_size:
            faults.append(f"{PREDICTIONS}: has no rows")
        faults += self._other_data(folder)
        if not faults:
            shutil.rmtree(folder)
        return faults

    def _other_data(self, folder: Path) -> list[str]:
        """Return how the split that was made differs from the snapshot's."""
        ids = json_object(folder / SPLIT, []).get("ids") if (folder / SPLIT).is_file() else None
        if not isinstance(ids, dict):
            return []
        split = self.ledger.plan.snapshot.split
        counts = {"train": split.train, "valid": split.val, "test": split.test}
        return [
            f"{SPLIT}: {len(ids[part])} rows in {part}, the snapshot has {count}"
            for part, count in counts.items()
            if isinstance(ids.get(part), list) and len(ids[part]) != count
        ]

    def stop(self) -> None:
        """Ask every run of this driver to save and stop, and wait for it; a run that does not stop continues."""
        for child in self.children:
            if child.poll() is None:
                with contextlib.suppress(OSError):
                    os.kill(child.pid, signal.SIGINT)
        until = time.monotonic() + GRACE
        while any(child.poll() is None for child in self.children) and time.monotonic() < until:
            time.sleep(POLL)

    def _reap(self) -> None:
        self.children = [child for child in self.children if child.poll() is None]

"""A run's folder and what a rank writes there: metrics, log, results; the same facts go to the launcher as events."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.errors import ArtifactError, UsageError

LOCK = ".lock"
CHANGES = "changes.jsonl"
CONFIG, ENVIRONMENT, METRICS, RESULTS, LOG = (
    "config.yaml",
    "environment.json",
    "metrics.jsonl",
    "results.json",
    "train.log",
)


def new_run_name(root: Path, name: str) -> Path:
    """A folder `root/<date>-<time>-<name>-<4 hex digits>` for a new run; nothing is made yet."""
    return root / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}-{secrets.token_hex(2)}"


@contextlib.contextmanager
def lock_run(folder: Path) -> Generator[None]:
    """Hold a run's folder for one launcher; the system lets go of it however the launcher ends.

    Raises UsageError where another launcher holds it.
    """
    with (folder / LOCK).open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise UsageError(
                f"{folder.name} is going on already, started by process {stream.read().strip() or 'unknown'}",
                fix="wait for it, or stop it with Ctrl-C where it was started",
            ) from None
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield


def point_latest(folder: Path) -> None:
    """Make `latest` beside the folder a link to it, atomically."""
    beside = folder.parent / f".latest-{os.getpid()}"
    beside.unlink(missing_ok=True)
    beside.symlink_to(folder.name)
    os.replace(beside, folder.parent / "latest")


def note_changes(folder: Path, changed: list[str]) -> None:
    """Add to changes.jsonl what a forced continuation changed; nothing where nothing did."""
    if changed:
        with (folder / CHANGES).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"time": round(time.time(), 3), "changes": changed}, ensure_ascii=False) + "\n")


def find_run(root: Path, name: str) -> Path:
    """The folder of a run given as its id, its folder, or 'latest'.

    Raises UsageError that lists the newest runs where there is no such one.
    """
    for folder in (root / name, Path(name)):
        if (folder / CONFIG).is_file():
            return folder.resolve()
    known = sorted(
        (path.name for path in root.glob("*") if (path / CONFIG).is_file() and not path.is_symlink()), reverse=True
    )
    listed = ", ".join(known[:5]) or "none yet"
    raise UsageError(f"there is no run '{name}' in {root} (newest: {listed})", fix="name one of these, or 'latest'")


class RunRecord:
    """One rank's way to write down a run.

    folder: the run's folder. main: whether this rank writes what there is once a run (rank 0).
    is_primary: whether it writes what every host has: checkpoints and weights (the first rank on each host).
    events: descriptor that JSON lines go to for the launcher to follow, or None.
    """

    def __init__(
        self, folder: Path, main: bool = True, events: int | None = None, is_primary: bool | None = None
    ) -> None:
        self.folder = folder
        self.main = main
        self.is_primary = main if is_primary is None else is_primary
        self._events = events
        self._unsent = b""
        self._sending = threading.Lock()
        self._phase, self._step, self._progress = "starting", 0, 0
        if events is not None:
            # a launcher that was suspended reads nothing, and the ranks shall not stand still for that
            os.set_blocking(events, False)
        folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of_rank(cls, folder: Path, main: bool, environ: Mapping[str, str] = os.environ) -> RunRecord:
        """The record of a rank that a launcher started: its events go through THUNDER_EVENTS_FD.

        THUNDER_IS_PRIMARY is 1 for the first rank on a host; by default that is rank 0 alone.
        """
        number = environ.get("THUNDER_EVENTS_FD")
        is_primary = environ.get("THUNDER_IS_PRIMARY", "1" if main else "0") == "1"
        return cls(folder, main, int(number) if number else None, is_primary)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie, one folder each."""
        return self.folder / "checkpoints"

    def event(self, kind: str, **values: Any) -> None:
        """Tell the launcher, and count it as progress."""
        self.progress(values.get("step"))
        self._tell({"event": kind, "time": time.time(), **values})

    def progress(self, step: int | None = None) -> None:
        """Something was done: the next heartbeat says so."""
        self._progress += 1
        self._step = self._step if step is None else step

    def phase(self, name: str, **values: Any) -> None:
        """Say what the rank is doing now: joining, loading, training, validating, saving, testing."""
        self._phase = name
        self.event("phase", phase=name, **values)

    def start_heartbeat(self, period: float = 1.0) -> None:
        """Send {"event": "beat", phase, step, progress} every `period` seconds, from a thread of its own.

        It beats while MLX blocks in a collective, with a `progress` that stands still; a stopped process does not beat.
        """

        def beat() -> None:
            while self._events is not None:
                said = {"phase": self._phase, "step": self._step, "progress": self._progress}
                self._tell({"event": "beat", "time": time.time(), **said})
                time.sleep(period)

        threading.Thread(target=beat, name="heartbeat", daemon=True).start()

    def _tell(self, event: Mapping[str, Any]) -> None:
        """Write a line; a launcher that does not read misses it, and one that is gone is the lifeline's business."""
        # half a character, as a file's name may hold, becomes JSON's own escape for it
        self.send(json.dumps(event, ensure_ascii=False).encode(errors="backslashreplace") + b"\n")

    def send(self, line: bytes = b"") -> bool:
        """Write a whole line to the launcher or none of it; never waits. Returns whether none is left half-written."""
        with self._sending:
            # what a full pipe cut off goes first, or two lines would run into one
            for data in (self._unsent, line):
                if data and (data is not line or not self._unsent):
                    try:
                        self._unsent = data[os.write(self._events, data) :] if self._events is not None else b""
                    except BlockingIOError:
                        break
                    except OSError:
                        self._events, self._unsent = None, b""
            return not self._unsent

    def metrics(self, **values: Any) -> None:
        """Append one line to metrics.jsonl; a resumed run may hold a step twice, and the later line counts."""
        if self.main:
            with (self.folder / METRICS).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"time": round(time.time(), 3), **values}, ensure_ascii=False) + "\n")
        self.event("metrics", **values)

    def log(self, text: str) -> None:
        """One line for people; the launcher puts it on its screen and into train.log."""
        if self.main:
            self.event("log", text=text)

    def finish(self, results: Mapping[str, Any]) -> None:
        """Write results.json, the sign that the run came to its end."""
        if self.main:
            digest.write_json(self.folder / RESULTS, dict(results))
        self.event("results", results=dict(results))


def read_results(folder: Path) -> dict[str, Any]:
    """What results.json holds.

    Raises ArtifactError where the run left none, or a damaged one.
    """
    try:
        return json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder / RESULTS}: {error}", fix=f"./launch.sh resume {folder.name}") from None

"""Write a run's folder from a rank: metrics, log, results; the launcher gets the same facts as events."""

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
    """Return a folder `root/<date>-<time>-<name>-<4 hex digits>` for a new run; nothing is created yet."""
    return root / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}-{secrets.token_hex(2)}"


@contextlib.contextmanager
def lock_run(folder: Path) -> Generator[None]:
    """Hold a run's folder for one launcher; the system releases the lock however the launcher ends.

    Raises UsageError where another launcher holds it.
    """
    with (folder / LOCK).open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise UsageError(
                f"{folder.name} is already running, started by process {stream.read().strip() or 'unknown'}",
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
    """Append to changes.jsonl what a forced continuation changed; nothing where nothing changed."""
    if changed:
        with (folder / CHANGES).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"time": round(time.time(), 3), "changes": changed}, ensure_ascii=False) + "\n")


def find_run(root: Path, name: str) -> Path:
    """Return the folder of a run given as its id, its folder, or 'latest'.

    Raises UsageError that lists the newest runs where there is no such run.
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
            # a suspended launcher does not read; ranks must not block on it
            os.set_blocking(events, False)
        folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of_rank(cls, folder: Path, main: bool, environ: Mapping[str, str] = os.environ) -> RunRecord:
        """Return the record of a rank that a launcher started; its events go through THUNDER_EVENTS_FD.

        THUNDER_IS_PRIMARY is 1 for the first rank on a host; by default that is rank 0 alone.
        """
        number = environ.get("THUNDER_EVENTS_FD")
        is_primary = environ.get("THUNDER_IS_PRIMARY", "1" if main else "0") == "1"
        return cls(folder, main, int(number) if number else None, is_primary)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints, one folder each."""
        return self.folder / "checkpoints"

    def event(self, kind: str, **values: Any) -> None:
        """Send an event to the launcher, and count it as progress."""
        self.progress(values.get("step"))
        self._send_event({"event": kind, "time": time.time(), **values})

    def progress(self, step: int | None = None) -> None:
        """Count progress; the next heartbeat reports it."""
        self._progress += 1
        self._step = self._step if step is None else step

    def phase(self, name: str, **values: Any) -> None:
        """Report the current phase: joining, loading, training, validating, saving, testing."""
        self._phase = name
        self.event("phase", phase=name, **values)

    def start_heartbeat(self, period: float = 1.0) -> None:
        """Send {"event": "beat", phase, step, progress} every `period` seconds, from a thread of its own.

        The thread continues while MLX blocks in a collective, with a constant `progress`; a stopped process sends
        nothing.
        """

        def beat() -> None:
            while self._events is not None:
                progress = {"phase": self._phase, "step": self._step, "progress": self._progress}
                self._send_event({"event": "beat", "time": time.time(), **progress})
                time.sleep(period)

        threading.Thread(target=beat, name="heartbeat", daemon=True).start()

    def _send_event(self, event: Mapping[str, Any]) -> None:
        """Write a line. A launcher that does not read misses it; the orphan guard handles a launcher that is gone."""
        # a lone surrogate, which a file name can contain, becomes a JSON escape
        self.send(json.dumps(event, ensure_ascii=False).encode(errors="backslashreplace") + b"\n")

    def send(self, line: bytes = b"") -> bool:
        """Write a whole line to the launcher or none of it, without waiting. Return whether no partial line is left."""
        with self._sending:
            # first send the rest of a line that a full pipe cut off, so that two lines do not merge
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
        """Append one line to metrics.jsonl; after a resume a step may occur twice, and the later line counts."""
        if self.main:
            with (self.folder / METRICS).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"time": round(time.time(), 3), **values}, ensure_ascii=False) + "\n")
        self.event("metrics", **values)

    def log(self, text: str) -> None:
        """Log one line; the launcher shows it on its screen and writes it to train.log."""
        if self.main:
            self.event("log", text=text)

    def finish(self, results: Mapping[str, Any]) -> None:
        """Write results.json, which marks the run as complete."""
        if self.main:
            digest.write_json(self.folder / RESULTS, dict(results))
        self.event("results", results=dict(results))


def read_results(folder: Path) -> dict[str, Any]:
    """Read results.json.

    Raises ArtifactError where the run left none, or a damaged one.
    """
    try:
        return json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder / RESULTS}: {error}", fix=f"./launch.sh resume {folder.name}") from None

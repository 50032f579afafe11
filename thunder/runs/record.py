"""A run's folder and what a rank writes there: metrics, log, results; the same facts go to the launcher as events."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.errors import ArtifactError, UsageError

CONFIG, ENVIRONMENT, METRICS, RESULTS, LOG = (
    "config.yaml",
    "environment.json",
    "metrics.jsonl",
    "results.json",
    "train.log",
)


def new_folder(root: Path, name: str, now: float | None = None) -> Path:
    """Make `root/<date>-<time>-<name>-<4 hex digits>` and point `root/latest` to it."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    folder = root / f"{stamp}-{name}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    point_latest(folder)
    return folder


def point_latest(folder: Path) -> None:
    """Make `latest` beside the folder a link to it, atomically."""
    beside = folder.parent / f".latest-{os.getpid()}"
    beside.unlink(missing_ok=True)
    beside.symlink_to(folder.name)
    os.replace(beside, folder.parent / "latest")


def find(root: Path, name: str) -> Path:
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

    folder: the run's folder. main: whether this rank writes the shared files (rank 0).
    events: descriptor that JSON lines go to for the launcher to follow, or None.
    """

    def __init__(self, folder: Path, main: bool = True, events: int | None = None) -> None:
        self.folder = folder
        self.main = main
        self._events = events
        if events is not None:
            # a launcher that was suspended reads nothing, and the ranks shall not stand still for that
            os.set_blocking(events, False)
        folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of_rank(cls, folder: Path, main: bool, environ: Mapping[str, str] = os.environ) -> RunRecord:
        """The record of a rank that a launcher started: its events go through THUNDER_EVENTS_FD."""
        number = environ.get("THUNDER_EVENTS_FD")
        return cls(folder, main, int(number) if number else None)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie, one folder each."""
        return self.folder / "checkpoints"

    def event(self, kind: str, **values: Any) -> None:
        """Tell the launcher; one that does not read misses it, and one that is gone is the lifeline's business."""
        if self._events is None:
            return
        line = json.dumps({"event": kind, "time": time.time(), **values}, ensure_ascii=False) + "\n"
        try:
            os.write(self._events, line.encode())
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._events = None

    def phase(self, name: str, **values: Any) -> None:
        """Say what the rank is doing now: joining, loading, training, validating, saving, testing."""
        self.event("phase", phase=name, **values)

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
        raise ArtifactError(f"{folder / RESULTS}: {error}", fix=f"thunder resume {folder.name}") from None


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl; a torn last line, as a crash leaves it, is left out."""
    path = folder / METRICS
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows

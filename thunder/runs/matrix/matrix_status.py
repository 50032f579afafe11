"""Determine the state of each run of a matrix from the files in its folder alone."""

from __future__ import annotations

import fcntl
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from thunder.errors import ArtifactError, GateError
from thunder.runs.bundles import bundle
from thunder.runs.bundles.bundle_checks import json_object
from thunder.runs.matrix import matrix_spec
from thunder.runs.matrix.matrix_spec import Matrix, MatrixCell
from thunder.runs.records import registry
from thunder.runs.records.run_record import CONFIG, RESULTS

CellStatus = Literal["waiting", "running", "stopped", "failed", "done", "sealed", "damaged"]
LAUNCHER = "launcher.json"


@dataclass(frozen=True)
class CellState:
    """A run of the matrix: its folder, its state, and the reason where it is not as expected."""

    cell: MatrixCell
    state: CellStatus
    folder: Path
    step: int | None = None
    steps: int | None = None
    cer: float | None = None
    why: str | None = None
    place: str | None = None


class MatrixLedger:
    """The folder of a matrix: a launch record, a lock and an output for each run.

    A run's process holds its lock until it ends, even when the driver that started it is gone.
    """

    def __init__(self, root: Path, plan: Matrix) -> None:
        self.root, self.plan = root, plan
        self.folder = root / f"matrix-{plan.id}"

    def path(self, cell: MatrixCell, ending: str) -> Path:
        """The launch record (json), lock, or output (out) of a run."""
        return self.folder / "cells" / f"{cell.id}.{ending}"

    def run_folder(self, cell: MatrixCell) -> Path:
        """The folder of the run itself, beside all others."""
        return self.root / matrix_spec.folder_name(self.plan, cell)

    def launched(self, cell: MatrixCell) -> dict[str, Any]:
        """The launch record of the run; empty where it was not started.

        Raises ArtifactError where the record is damaged, GateError where the matrix has changed since.
        """
        path, faults = self.path(cell, "json"), []
        if not path.is_file():
            return {}
        record = json_object(path, faults)
        if faults:
            raise ArtifactError(f"{path}: {faults[0]}", fix=f"remove it, and {self.run_folder(cell)}, to run it again")
        if record.get("options_sha256") != cell.sha256:
            raise GateError(
                f"run {cell.id} was started with other options than the matrix has now",
                fix="give the run another id, or restore the old values in the matrix",
            )
        return record

    def is_running(self, cell: MatrixCell) -> bool:
        """Whether a process holds the run's lock."""
        return is_held(self.path(cell, "lock"))

    def state(self, cell: MatrixCell) -> CellState:
        """The state of one run. Raises as `launched`."""
        folder, launched = self.run_folder(cell), self.launched(cell)
        place = launched.get("place")
        if self.is_running(cell) or registry.is_running(folder):
            line = registry.run_line(folder, running=True)
            return CellState(cell, "running", folder, line.step, line.steps, place=place)
        if not (folder / CONFIG).is_file() and not (folder / RESULTS).is_file():
            why = last_words(self.path(cell, "out")) if launched else None
            return CellState(cell, "failed" if launched else "waiting", folder, why=why, place=place)
        line = registry.run_line(folder, running=False)
        word: CellStatus = "sealed" if line.state == "done" and bundle.manifest_digest(folder) else line.state
        return CellState(cell, word, folder, line.step, line.steps, cell_cer(folder), line.why, place)

    def states(self) -> list[CellState]:
        """The states of all runs of the matrix, in its order."""
        return [self.state(cell) for cell in matrix_spec.matrix_cells(self.plan)]


def is_held(path: Path) -> bool:
    """Return whether a process holds a lock; it is tried in shared mode and released at once."""
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def cell_cer(folder: Path) -> float | None:
    """Return the error rate on the test rows that a run states."""
    test = json_object(folder / RESULTS, []).get("test") if (folder / RESULTS).is_file() else None
    value = test.get("cer", test.get("cer_after")) if isinstance(test, dict) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def last_words(path: Path) -> str | None:
    """Return the last message of a command that made no run: its error, where it printed one."""
    if not path.is_file():
        return None
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith("{"):
            try:
                return str(json.loads(line)["error"]).splitlines()[0]
            except (ValueError, KeyError, TypeError):
                continue
        if line.startswith("error:"):
            return line.removeprefix("error:").strip()
    return lines[-1] if lines else None

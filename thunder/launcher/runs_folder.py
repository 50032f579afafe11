"""The folder of all runs, and the folder of a run by its name."""

from __future__ import annotations

import os
from pathlib import Path

from thunder.config import REPOSITORY
from thunder.runs.records import run_record


def runs() -> Path:
    """The folder of all runs: THUNDER_RUNS, else runs/ in the repository."""
    return Path(os.environ.get("THUNDER_RUNS") or REPOSITORY / "runs").expanduser()


def run_folder(name: str) -> Path:
    """The folder of a run given as its id, its folder, or 'latest'; an evaluation or another's run is one too.

    Raises UsageError that lists the newest runs where there is no such one.
    """
    for folder in (runs() / name, Path(name).expanduser()):
        if (folder / run_record.RESULTS).is_file():
            return folder.resolve()
    return run_record.find_run(runs(), name)

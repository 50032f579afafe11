"""List the runs in a folder: which are in progress, how far the others came, and how they ended."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from thunder import digest
from thunder.errors import Interrupted, ThunderError
from thunder.runs.records.run_record import CONFIG, LOCK, LOG, METRICS, RESULTS

PLAN, END = "plan.json", "end.json"
TAIL = 65536  # bytes that are read from the end of metrics.jsonl
_NAME = re.compile(r"\d{8}-\d{6}-.")
_EVALUATION = re.compile(r"\d{8}-\d{6}-eval-")  # the folder of an evaluation, which never has the state running

RunState = Literal["running", "done", "stopped", "failed", "damaged"]


@dataclass(frozen=True)
class RunLine:
    """A run as one line of a list.

    started, updated: seconds since 1970. cer: on the test rows; with the adapter for a LoRA run. why: the damage, or
    the last message of a failed run.
    """

    name: str
    state: RunState
    folder: str
    step: int | None = None
    steps: int | None = None
    started: float | None = None
    updated: float | None = None
    loss: float | None = None
    cer: float | None = None
    why: str | None = None


class _Damaged(Exception):
    """A run's file has unexpected content."""


def recent_runs(root: Path, count: int = 5) -> list[RunLine]:
    """Return all runs in progress, then the newest others up to `count`; read-only, a damaged folder is one line."""
    folders = sorted(_folders(root), key=lambda folder: (_started(folder), folder.name), reverse=True)
    running = [folder for folder in folders if is_running(folder)]
    finished = [folder for folder in folders if folder not in running]
    return [run_line(folder, running=True) for folder in running] + [
        run_line(folder, running=False) for folder in finished[:count]
    ]


def write_end(folder: Path, error: ThunderError) -> None:
    """Record why a run ended without results; a later end replaces this one."""
    state = "stopped" if isinstance(error, Interrupted) else "failed"
    content = {"state": state, "message": error.message, "fix": error.fix, "exit_code": error.exit_code}
    digest.write_json(folder / END, content | {"time": time.time()})


def is_running(folder: Path) -> bool:
    """Return whether a launcher holds the run's folder; the lock is tried in shared mode and released at once."""
    try:
        with (folder / LOCK).open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def run_line(folder: Path, running: bool) -> RunLine:
    """Return one run; its files may be missing, truncated or made by another tool."""
    values: dict[str, Any] = {"name": folder.name, "folder": str(folder), "started": _started(folder) or None}
    values["updated"] = max((_changed(folder / name) for name in (METRICS, RESULTS, LOG, END, PLAN)), default=0) or None
    try:
        plan = _object(folder / PLAN)
        if plan is None:
            raise _Damaged(f"{PLAN} is missing")
        values["steps"] = _whole(_inside(plan, "length", "updates"))
        values |= _progress(folder / METRICS)
        if running:
            return RunLine(state="running", **values)
        results, end = _object(folder / RESULTS), _object(folder / END)
        if results is not None:
            values["step"] = _whole(results.get("steps")) or values.get("step")
            test = _inside(results, "test", "cer_after"), _inside(results, "test", "cer"), results.get("cer")
            values["cer"] = next((rate for each in test if (rate := _number(each)) is not None), None)
            return RunLine(state="done", **values)
        return RunLine(**values, **_end(folder, end))
    except _Damaged as fault:
        return RunLine(state="running" if running else "damaged", why=str(fault), **values)


def _end(folder: Path, end: dict[str, Any] | None) -> dict[str, Any]:
    """Return how a run without results ended; a run that recorded nothing has stopped and can be resumed."""
    if end is not None and end.get("state") in ("stopped", "failed"):
        words = str(end.get("message") or "").splitlines()
        return {"state": end["state"], "why": words[0] if words and end["state"] == "failed" else None}
    whole = any((folder / "checkpoints").glob("step-*"))
    return {
        "state": "stopped" if whole else "failed",
        "why": None if whole else "the run wrote neither results nor a reason",
    }


def _folders(root: Path) -> Iterator[Path]:
    """Return the folders that look like runs; links such as `latest` and hidden folders do not."""
    with contextlib.suppress(OSError):
        yield from (path for path in root.iterdir() if not path.is_symlink() and path.is_dir() and is_run(path))


def is_run(folder: Path) -> bool:
    """Return whether a folder looks like a run."""
    if folder.name.startswith(".") or (_EVALUATION.match(folder.name) and not (folder / PLAN).exists()):
        return False
    return bool(_NAME.match(folder.name)) or any((folder / name).exists() for name in (CONFIG, PLAN, LOCK))


def _started(folder: Path) -> float:
    """Return when the run was started: from its name, else from its oldest file."""
    with contextlib.suppress(ValueError, OverflowError):
        return time.mktime(time.strptime(folder.name[:15], "%Y%m%d-%H%M%S"))
    return _changed(folder / CONFIG) or _changed(folder)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _object(path: Path) -> dict[str, Any] | None:
    """Return a JSON object; None where there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _Damaged(f"{path.name}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise _Damaged(f"{path.name} is not JSON") from None
    if not isinstance(content, dict):
        raise _Damaged(f"{path.name} is not a JSON object")
    return content


def _progress(path: Path) -> dict[str, Any]:
    """Return the last step and the last loss in the tail of metrics.jsonl; a truncated line is skipped."""
    try:
        with path.open("rb") as stream:
            start = max(0, os.fstat(stream.fileno()).st_size - TAIL)
            stream.seek(start)
            lines = stream.read().split(b"\n")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _Damaged(f"{path.name}: {error.strerror}") from None
    values: dict[str, Any] = {}
    entries = [entry for each in lines[1 if start else 0 :] if (entry := _entry(each)) is not None]
    for entry in reversed(entries):
        for name, value in (("step", _whole(entry.get("step"))), ("loss", _number(entry.get("loss")))):
            if value is not None:
                values.setdefault(name, value)
        if len(values) == 2:
            break
    if not entries and any(each.strip() for each in lines[:-1]):
        raise _Damaged(f"{path.name} has no readable line")
    return values


def _entry(text: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _inside(content: dict[str, Any], part: str, key: str) -> Any:
    inner = content.get(part)
    return inner.get(key) if isinstance(inner, dict) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    with contextlib.suppress(OverflowError):  # JSON has no largest integer
        return float(value) if math.isfinite(value) else None
    return None

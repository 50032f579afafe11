"""Read the files of a run as far as possible; missing, truncated or damaged parts are reported."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thunder.runs.bundles.scored_rows import json_lines

MAX_FAULTS_SHOWN = 3  # faults of one file that are listed individually


class RunFiles:
    """A folder's files. `absent` collects a sentence for each part that cannot be read, in reading order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.absent: list[str] = []

    def has(self, name: str) -> bool:
        """Whether a file exists."""
        return (self.path / name).is_file()

    def json(self, name: str, without: str) -> dict[str, Any]:
        """Return a JSON object, or an empty one. without: what the page then lacks."""
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
            if isinstance(content, dict):
                return content
            fault = "is not a JSON object"
        except FileNotFoundError:
            fault = "is missing"
        except OSError as error:
            fault = error.strerror or str(error)
        except (ValueError, RecursionError):
            fault = "is not JSON"
        if without:
            self.absent.append(f"{name} {fault}: {without}")
        return {}

    def lines(self, name: str, without: str) -> list[dict[str, Any]]:
        """Return the JSON objects of a JSONL file. without: what the page lacks without the file; empty: report
        nothing.
        """
        faults: list[str] = []
        try:
            entries = [entry for _, entry in json_lines(self.path / name, faults)]
        except FileNotFoundError:
            if without:
                self.absent.append(f"{name} is missing: {without}")
            return []
        except OSError as error:
            self.absent.append(f"{name}: {error.strerror}: {without}")
            return []
        more = f", and {len(faults) - MAX_FAULTS_SHOWN} more" if len(faults) > MAX_FAULTS_SHOWN else ""
        if faults:
            self.absent.append(f"{'; '.join(faults[:MAX_FAULTS_SHOWN])}{more}: left out")
        if not entries and without:
            self.absent.append(f"{name} holds no line that can be read: {without}")
        return entries


def get_number(content: Mapping[str, Any], key: str) -> float | None:
    """Return a finite number of a key, or None."""
    value = content.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # JSON integers have no upper limit
        return None


def get_int(content: Mapping[str, Any], key: str) -> int | None:
    """Return an integer of a key, or None."""
    value = content.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def get_text(content: Mapping[str, Any], *keys: str) -> str | None:
    """Return the first text of several keys, or None."""
    return next((content[key] for key in keys if isinstance(content.get(key), str)), None)


def get_object(content: Mapping[str, Any], *path: str) -> dict[str, Any]:
    """Return the object at the end of a path of keys, or an empty one."""
    value: Any = content
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else {}

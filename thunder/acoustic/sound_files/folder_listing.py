"""List the sound files of a folder, and count the others by suffix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from pathlib import Path


def list_sound_files(
    folder: Path, suffixes: Container[str], known: Container[Path] = ()
) -> tuple[list[Path], Counter[str]]:
    """(files below the folder with these suffixes in any case, sorted; number of others by suffix).

    Hidden files, as systems write them, and `known` files are not counted.
    """
    files: list[Path] = []
    passed_over: Counter[str] = Counter()
    for path in sorted(folder.rglob("*")):
        suffix = path.suffix.lower()
        if suffix in suffixes:
            files.append(path)
        elif path.is_file() and path not in known and not path.name.startswith("."):
            passed_over[suffix or "without a suffix"] += 1
    return files, passed_over

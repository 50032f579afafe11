"""The error of a sound file that cannot be used."""

from __future__ import annotations

from pathlib import Path

from thunder.errors import CorpusError

REPAIR = "repair the file, or exclude it with --keep-going"
COPY_AGAIN = "copy it again"


def sound_fault(path: Path, reason: str, fix: str = REPAIR) -> CorpusError:
    """A CorpusError that names the file."""
    return CorpusError(f"{path}: {reason}", fix)


def in_one_line(error: CorpusError) -> str:
    """The message with what to do, where this is more than to repair the file; for lists of faults."""
    return error.message if error.fix in ("", REPAIR) else f"{error.message}; to fix: {error.fix}"

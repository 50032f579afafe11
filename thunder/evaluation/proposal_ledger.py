"""The file of an unfinished evaluation: its settings, its fingerprint, and a line for each proposal so far."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from thunder.errors import ArtifactError, UsageError, combined_error
from thunder.evaluation.engines import Proposal

PARTIAL_FILE = "predictions.partial.jsonl"
LEDGER_VERSION = 1
ProposalPair = tuple[Proposal, Proposal | None]


class ProposalLedger:
    """The proposals so far, of the engine and of the base, in the order of the rows."""

    def __init__(self, folder: Path, settings: dict[str, Any], fingerprint: dict[str, Any]) -> None:
        """Open or start the ledger of a folder; an incomplete last line is removed.

        settings: what was asked for. fingerprint: name -> value of everything that decides the proposals.
        Raises UsageError naming what has changed since it was begun, ArtifactError where it is damaged.
        """
        self.path = folder / PARTIAL_FILE
        self.pairs: list[ProposalPair] = []
        if self.path.exists():
            header, lines = _read_ledger(self.path)
            _refuse_changes(self.path, header["ground"], fingerprint)
            self.pairs = [_parse_pair(self.path, number, line) for number, line in enumerate(lines, start=2)]
            self._stream = self.path.open("a", encoding="utf-8")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("w", encoding="utf-8")
            self._write([{"evaluation": LEDGER_VERSION, "settings": settings, "ground": fingerprint}])

    def append(self, pairs: Sequence[ProposalPair]) -> None:
        """Add proposals to the file, and return when they are on disk."""
        self.pairs += pairs
        self._write([[asdict(proposal), base and asdict(base)] for proposal, base in pairs])

    def _write(self, values: Sequence[Any]) -> None:
        self._stream.write("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def remove(self) -> None:
        """Remove the file; the finished files hold its content."""
        self.close()
        self.path.unlink()


def read_stored_settings(folder: Path) -> dict[str, Any]:
    """The settings of an unfinished evaluation.

    Raises UsageError where there is none in the folder.
    """
    if not (folder / PARTIAL_FILE).is_file():
        raise UsageError(
            f"{folder}: no unfinished evaluation ({PARTIAL_FILE}) in it", fix="start again, without --resume"
        )
    return _read_ledger(folder / PARTIAL_FILE)[0]["settings"]


def _read_ledger(path: Path) -> tuple[dict[str, Any], list[bytes]]:
    """The header and the complete lines after it; bytes after the last line end are cut from the file."""
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    lines = data[:end].split(b"\n")[:-1]
    try:
        header = json.loads(lines[0]) if lines else None
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("evaluation") != LEDGER_VERSION or "ground" not in header:
        raise ArtifactError(
            f"{path}: the first line is not that of an evaluation", fix=f"delete it and start again: rm {path}"
        )
    if end != len(data):
        with path.open("r+b") as stream:
            stream.truncate(end)
    return header, lines[1:]


def _parse_pair(path: Path, number: int, line: bytes) -> ProposalPair:
    try:
        proposal, base = json.loads(line)
        return Proposal(**proposal), Proposal(**base) if base else None
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path}:{number}: {error}", fix=f"delete it and start again: rm {path}") from None


def _refuse_changes(path: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    """See that what decides the proposals is what it was. Raises UsageError naming all that has changed."""
    names = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    if names:
        faults = [f"{name} was {then.get(name)!r} and is {now.get(name)!r}" for name in names]
        raise combined_error(
            UsageError,
            f"{path} was started with other inputs:",
            faults,
            fix="give the same as before, or another --out",
        )

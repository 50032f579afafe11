"""What a half-done evaluation leaves behind: proposals, a line each as they are made, under what decides them."""

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
    """The proposals so far, of the engine and of the base beside it, in the order of the rows."""

    def __init__(self, folder: Path, settings: dict[str, Any], fingerprint: dict[str, Any]) -> None:
        """Open or begin the folder's ledger; a last line that was cut off is taken away.

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
        """Add proposals to the file, and see that they are on disk."""
        self.pairs += pairs
        self._write([[asdict(mine), base and asdict(base)] for mine, base in pairs])

    def _write(self, values: Sequence[Any]) -> None:
        self._stream.write("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def remove(self) -> None:
        """Take the file away: what it held stands in the finished files."""
        self.close()
        self.path.unlink()


def read_stored_settings(folder: Path) -> dict[str, Any]:
    """What a half-done evaluation was asked for.

    Raises UsageError where there is none in the folder.
    """
    if not (folder / PARTIAL_FILE).is_file():
        raise UsageError(
            f"{folder}: no half-done evaluation ({PARTIAL_FILE}) in it", fix="start it anew, without --resume"
        )
    return _read_ledger(folder / PARTIAL_FILE)[0]["settings"]


def _read_ledger(path: Path) -> tuple[dict[str, Any], list[bytes]]:
    """The header and the whole lines after it; what follows the last line end is cut from the file."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    lines = data[:whole].split(b"\n")[:-1]
    try:
        header = json.loads(lines[0]) if lines else None
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("evaluation") != LEDGER_VERSION or "ground" not in header:
        raise ArtifactError(f"{path}: no evaluation's first line", fix=f"delete it and start anew: rm {path}")
    if whole != len(data):
        with path.open("r+b") as stream:
            stream.truncate(whole)
    return header, lines[1:]


def _parse_pair(path: Path, number: int, line: bytes) -> ProposalPair:
    try:
        mine, base = json.loads(line)
        return Proposal(**mine), Proposal(**base) if base else None
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path}:{number}: {error}", fix=f"delete it and start anew: rm {path}") from None


def _refuse_changes(path: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    """See that what decides the proposals is what it was. Raises UsageError naming all that has changed."""
    names = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    if names:
        faults = [f"{name} was {then.get(name)!r} and is {now.get(name)!r}" for name in names]
        raise combined_error(
            UsageError, f"{path} was begun otherwise:", faults, fix="the same as before, or another --out"
        )

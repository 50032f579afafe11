"""Write a feature store shard by shard, so that an interrupted extraction can resume.

Input rows are numbered, and a shard records the rows that it covers. A complete shard is skipped, an incomplete one is
made again. Shards close at a size, not at a time, so a resumed extraction writes the same bytes.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from thunder import digest
from thunder.acoustic.features.recipe import Recipe
from thunder.acoustic.features.shard import ShardWriter
from thunder.acoustic.features.store_index import (
    INDEX,
    ShardEntry,
    Utterance,
    read_list_head,
    utterance_line,
    write_index,
    write_list,
)
from thunder.errors import ArtifactError, ThunderError, UsageError

PLAN, LOCK = "plan.json", ".lock"
SHARD_BYTES = 1_000_000_000


class StoreWriter:
    """Writes a store; `position` is the index of the input row that is expected next.

    Pass each row to `add` or to `leave_out`; `finish` writes the index. plan: further inputs that determine the bytes
    (digest of the input, part); a folder with another plan is refused. redo_left_out: make shards with left-out rows
    again. Raises UsageError if the folder holds anything else, or another process writes into it.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        width: int,
        *,
        plan: Mapping[str, Any] | None = None,
        shard_bytes: int = SHARD_BYTES,
        redo_left_out: bool = False,
    ) -> None:
        self.folder, self.recipe, self.width = folder, recipe, width
        self.shard_bytes, self.redo_left_out = shard_bytes, redo_left_out
        self.recipe_digest = recipe.digest()
        self.position = 0
        self.entries: list[ShardEntry] = []
        self._shard: ShardWriter | None = None
        self._lines: list[str] = []
        self._left_out: list[tuple[str, str]] = []
        self._seconds = 0.0
        self._plan = {"recipe": recipe.resolved(), "width": width, "shard_bytes": shard_bytes} | dict(plan or {})

    def __enter__(self) -> StoreWriter:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise UsageError(f"{self.folder}: another process writes features here", "wait for it to end") from None
        try:
            self._agree_on_plan()
        except ThunderError:
            self._lock.close()
            raise
        for leftover in (*self.folder.glob(".shard-*"), *self.folder.glob(".*.json.*.tmp")):  # of a killed process
            leftover.unlink()
        self._pass_over_finished()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        try:
            if self._shard:
                self._shard.abandon()
        finally:
            self._lock.close()

    def add(self, utterance: Utterance, features: np.ndarray) -> None:
        """Store the row at `position`: features [T, D]. Raises CorpusError that names it if they are not finite."""
        shard = self._open()
        crc32 = shard.add(utterance.id, features)
        self._lines.append(utterance_line(replace(utterance, frames=len(features)), crc32))
        self._seconds += utterance.seconds
        self._advance()

    def leave_out(self, name: str, fault: str) -> None:
        """Skip the row at `position` and record the reason in the shard's list."""
        self._open()
        self._left_out.append((name, fault))
        self._advance()

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """(id, fault) of every row that is in no shard."""
        return [*(fault for entry in self.entries for fault in entry.left_out), *self._left_out]

    def finish(self) -> dict[str, Any]:
        """Close the last shard, write the index and return it."""
        self.close()
        for stale in self._stale():
            stale.unlink()
        assert not self._shard
        totals = {
            name: sum(getattr(entry, name) for entry in self.entries) for name in ("utterances", "frames", "seconds")
        }
        content = {
            "recipe": self.recipe.resolved(),
            "recipe_digest": self.recipe_digest,
            "width": self.width,
            "plan": self._plan,
            "shards": [entry.for_index() for entry in self.entries],
            "left_out": len(self.left_out),
        }
        return write_index(self.folder, content | totals)

    def close(self) -> None:
        """Finish the current shard, if there is one."""
        if self._shard:
            self._close()

    def _open(self) -> ShardWriter:
        if self._shard is None:
            (self.folder / INDEX).unlink(missing_ok=True)
            temporary = self.folder / f".{shard_file_name(len(self.entries))}.{os.getpid()}.tmp"
            self._shard = ShardWriter(temporary, self.recipe.dtype, self.width, self.recipe_digest)
            self._begins = self.position
        return self._shard

    def _advance(self) -> None:
        self.position += 1
        assert self._shard
        if self._shard.bytes >= self.shard_bytes:
            self._close()
            self._pass_over_finished()

    def _close(self) -> None:
        shard, file = self._shard, shard_file_name(len(self.entries))
        assert shard
        shard.finish()
        # remove the old list first, so that it is never beside a shard that it does not describe
        (self.folder / file).with_suffix(".jsonl").unlink(missing_ok=True)
        sha256, size = digest.sha256_file(shard.path), shard.path.stat().st_size
        os.replace(shard.path, self.folder / file)
        entry = ShardEntry(
            file, size, sha256, shard.frames, len(self._lines), self._seconds, self._begins,
            self.position - self._begins, tuple(self._left_out),
        )  # fmt: skip
        write_list(self.folder, entry, self.recipe_digest, self._lines)
        self.entries.append(read_list_head(self.folder, entry.list_file)[1])
        self._shard, self._lines, self._left_out, self._seconds = None, [], [], 0.0

    def _pass_over_finished(self) -> None:
        """Skip the next shards that are complete and begin at the next row."""
        while entry := self._finished(shard_file_name(len(self.entries))):
            self.entries.append(entry)
            self.position += entry.rows

    def _finished(self, file: str) -> ShardEntry | None:
        path = self.folder / file
        try:
            recipe_digest, entry = read_list_head(self.folder, path.with_suffix(".jsonl").name)
        except ArtifactError:
            return None
        matches = entry.begins == self.position and recipe_digest == self.recipe_digest and entry.rows > 0
        is_complete = path.is_file() and path.stat().st_size == entry.bytes
        if not (matches and is_complete) or (self.redo_left_out and entry.left_out):
            return None
        return entry if digest.sha256_file(path) == entry.sha256 else None

    def _stale(self) -> list[Path]:
        """Shards beyond the last one, left from an earlier extraction."""
        known = {file for entry in self.entries for file in (entry.file, entry.list_file)}
        return [path for path in self.folder.glob("shard-*") if path.name not in known]

    def _agree_on_plan(self) -> None:
        path = self.folder / PLAN
        text = json.dumps(self._plan, sort_keys=True, indent=4, ensure_ascii=False) + "\n"
        if not path.exists():
            if any(not stored.name.startswith(".") for stored in self.folder.iterdir()):
                raise UsageError(f"{self.folder}: is not empty and holds no features", "give another folder with --out")
            return digest.write_atomically(path, text)
        try:
            stored = json.loads(path.read_bytes())
            assert isinstance(stored, dict)
        except (ValueError, AssertionError):
            raise ArtifactError(f"{path}: damaged", "give another folder with --out, or remove this one") from None
        if stored != self._plan:
            raise UsageError(
                f"{self.folder}: holds features made with other options: {', '.join(_differences(stored, self._plan))}",
                "give another folder with --out, or remove this one",
            )


def shard_file_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.safetensors"


def planned_model(folder: Path) -> str | None:
    """`model` of the recipe in a folder's plan; None if there is no plan, or it cannot be read."""
    try:
        return json.loads((folder / PLAN).read_bytes())["recipe"]["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _differences(stored: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Differences between two plans, such as 'subsample 4, now 2'."""
    flat = [{**plan, **plan.get("recipe", {})} for plan in (stored, current)]
    names = sorted((flat[0].keys() | flat[1].keys()) - {"recipe"})
    pairs = [(name, flat[0].get(name), flat[1].get(name)) for name in names]
    return [f"{name} {_short(old)}, now {_short(new)}" for name, old, new in pairs if old != new]


def _short(value: Any) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 40 else str(value)

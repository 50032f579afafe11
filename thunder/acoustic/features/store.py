"""Read a feature store in any order, memory-mapped; training and tests read their input from it.

Layout of a folder: index.json (written last), and for each shard NAME.safetensors (frames) and NAME.jsonl (utterances).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from thunder import digest
from thunder.acoustic.features.recipe import Recipe
from thunder.acoustic.features.shard import Shard, check_header, checksum, first_incomplete_frame
from thunder.acoustic.features.store_index import FIX, Utterance, read_index, read_utterances
from thunder.errors import ArtifactError, combined_error

__all__ = ["FeatureStore", "Utterance"]


class FeatureStore:
    """Precomputed features of many utterances, read from disk when they are used.

    recipe, recipe_digest: how the features were made. width: feature dimension D. digest: of all data, with texts and
    speakers.
    """

    def __init__(self, folder: Path, content: dict[str, Any], recipe: Recipe) -> None:
        self.folder, self.recipe, self.recipe_digest = folder, recipe, content["recipe_digest"]
        self.width, self.digest = content["width"], content["checksum"]
        self._entries: list[dict[str, Any]] = content["shards"]
        self._shards: dict[int, Shard] = {}
        utterances: list[Utterance] = []
        sums: list[int] = []
        self._shard_starts = [0]  # position of each shard's first utterance
        for entry in self._entries:
            for utterance, crc32 in read_utterances(folder / list_file_of(entry), entry["list_sha256"]):
                utterances.append(utterance)
                sums.append(crc32)
            self._shard_starts.append(len(utterances))
        self.utterances = tuple(utterances)
        self._sums = np.array(sums, np.uint32)
        lengths = np.array([utterance.frames for utterance in utterances], np.int64)
        # first frame of each utterance, counted over all shards
        self._frame_starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    @classmethod
    def open(cls, folder: Path, *, verify: bool = False) -> FeatureStore:
        """Open a store; check sizes and headers, and with `verify` every byte.

        Raises ArtifactError that lists each shard (and utterance) which is missing, truncated, changed or of another
        recipe.
        """
        content = read_index(folder)
        try:
            recipe = Recipe.model_validate(content["recipe"])
            if recipe.digest() != content["recipe_digest"]:
                raise ArtifactError(f"{folder}: the digest of the index's recipe does not match its recipe_digest", FIX)
            store = cls(folder, content, recipe)
        except (KeyError, TypeError, ValidationError) as error:
            raise ArtifactError(f"{folder}: the index cannot be used: {error}", FIX) from None
        faults = [fault for number in range(len(store._entries)) for fault in store._faults(number, verify)]
        if faults:
            raise combined_error(ArtifactError, f"{folder} is damaged:", faults, FIX)
        return store

    def __len__(self) -> int:
        return len(self.utterances)

    def features(self, position: int) -> np.ndarray:
        """[T, D] float32 of the utterance at a position. Raises ArtifactError if a value is not finite."""
        if not 0 <= position < len(self):
            raise IndexError(position)
        number = self._shard_number(position)
        rows = self._shard(number).features(self._row(number, position), self.utterances[position].frames)
        if not np.isfinite(rows).all():
            raise ArtifactError(self._utterance_message(number, position, "its features are not finite"), FIX)
        return rows

    def require(self, recipe_digest: str, where: str, recipe: Recipe | None = None) -> None:
        """Raise ArtifactError if the features have another recipe than, for example, the checkpoint that
        `where` names; recipe: the expected one, so that the differences are named.
        """
        if recipe_digest == self.recipe_digest:
            return
        rates = ""
        if recipe and recipe.frames_per_second != self.recipe.frames_per_second:
            rates = f"{self.recipe.frames_per_second:g} frames per second, not {recipe.frames_per_second:g}; "
        if recipe:
            named = rates + "; ".join(self.recipe.differences(recipe))
        else:
            named = ", ".join(f"{name} {value}" for name, value in self.recipe.resolved().items() if value is not None)
        raise ArtifactError(
            f"{self.folder}: its features are of another recipe ({self.recipe_digest[:16]}...: {named}) than those "
            f"of {where} ({recipe_digest[:16]}...)",
            "extract features with the recipe of the checkpoint, or train again on these",
        )

    def _shard_number(self, position: int) -> int:
        return int(np.searchsorted(self._shard_starts, position, side="right")) - 1

    def _row(self, number: int, position: int) -> int:
        return int(self._frame_starts[position] - self._frame_starts[self._shard_starts[number]])

    def _path(self, number: int) -> Path:
        return self.folder / self._entries[number]["file"]

    def _shard(self, number: int) -> Shard:
        if number not in self._shards:
            entry = self._entries[number]
            self._shards[number] = Shard(self._path(number), self.recipe.dtype, entry["frames"], self.width)
        return self._shards[number]

    def _utterance_message(self, number: int, position: int, what: str) -> str:
        return f"{self._path(number)}: utterance {self.utterances[position].id!r}: {what}"

    def _faults(self, number: int, verify: bool) -> list[str]:
        """The faults of one shard."""
        entry, path = self._entries[number], self._path(number)
        first, end = self._shard_starts[number], self._shard_starts[number + 1]
        count, frames = end - first, int(self._frame_starts[end] - self._frame_starts[first])
        if (count, frames) != (entry["utterances"], entry["frames"]):
            expected = f"{entry['utterances']} utterances with {entry['frames']} frames"
            return [f"{path}: the index says {expected}, its list has {count} with {frames}"]
        if not path.is_file():
            return [f"{path}: is missing; the index lists it"]
        if (size := path.stat().st_size) != entry["bytes"]:
            torn = first_incomplete_frame(size, self.recipe.dtype, frames, self.width)
            position = int(np.searchsorted(self._frame_starts[1:], self._frame_starts[first] + torn, side="right"))
            what = f"{size} bytes, the index says {entry['bytes']}"
            return [self._utterance_message(number, position, f"torn: {what}") if position < end else f"{path}: {what}"]
        try:
            check_header(path, self.recipe.dtype, frames, self.width, self.recipe_digest, FIX)
        except ArtifactError as error:
            return [error.message]
        return self._content_faults(number) if verify else []

    def _content_faults(self, number: int) -> list[str]:
        """Read a whole shard and report utterances that were changed or are not finite."""
        path, sha256, faults = self._path(number), self._entries[number]["sha256"], []
        for position in range(self._shard_starts[number], self._shard_starts[number + 1]):
            row, frames = self._row(number, position), self.utterances[position].frames
            if checksum(*self._shard(number).stored(row, frames)) != self._sums[position]:
                faults.append(self._utterance_message(number, position, "its features were changed"))
            elif not np.isfinite(self._shard(number).features(row, frames)).all():
                faults.append(self._utterance_message(number, position, "its features are not finite"))
        if not faults and (actual := digest.sha256_file(path)) != sha256:
            faults.append(f"{path}: sha256 is {actual[:16]}..., the index says {sha256[:16]}...")
        return faults


def list_file_of(entry: dict[str, Any]) -> str:
    """The file with a shard's utterances, from the shard's entry in the index."""
    return entry["file"].removesuffix(".safetensors") + ".jsonl"

"""Look up near duplicates of held-out texts: by a shared stretch of text, and by few edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from thunder.corpora.splits import edit_neighbors, near_duplicates
from thunder.corpora.splits.edit_neighbors import EditNeighbors
from thunder.corpora.splits.near_duplicates import HeldOutHashes


class NearDuplicate(NamedTuple):
    """The number of a held-out text, and how another text resembles it."""

    owner: int
    kind: Literal["stretch", "edits"]


class NearDuplicateIndex:
    """Held-out texts, given and looked up as comparable keys.

    chars: length in code points of a stretch that near duplicates share. edits: the most edits between near duplicates,
    as a share of the shorter text (see `allowed_edits`); 0 looks for shared stretches only.
    """

    def __init__(self, chars: int = near_duplicates.SIZE, edits: float = edit_neighbors.SHARE) -> None:
        self.chars, self.edits = chars, edits
        self.held_out = 0
        self._stretches, self._edits = HeldOutHashes(chars), EditNeighbors(edits)

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> NearDuplicateIndex:
        """Return an empty index with the lengths of a manifest's settings, or the defaults where it has none."""
        return cls(
            settings.get("near_duplicate_chars", near_duplicates.SIZE),
            settings.get("near_duplicate_edits", edit_neighbors.SHARE),
        )

    def add(self, numbers: Sequence[int], keys: Sequence[str]) -> None:
        """Add held-out texts; numbers: their identifiers in answers."""
        self.held_out += len(keys)
        self._stretches.add(numbers, keys)
        self._edits.add(numbers, keys)

    def near(self, keys: Sequence[str]) -> list[NearDuplicate | None]:
        """Return for each text a held-out text that it resembles, or None; a shared stretch is looked for first."""
        found = [
            None if owner is None else NearDuplicate(owner, "stretch") for owner in self._stretches.shared_with(keys)
        ]
        others = [at for at, match in enumerate(found) if match is None]
        for at, owner in zip(others, self._edits.near([keys[at] for at in others]), strict=True):
            found[at] = None if owner is None else NearDuplicate(owner, "edits")
        return found

    def criteria(self) -> dict[str, Any]:
        """Return what is looked for, for a report."""
        return {
            "shared_code_points": self.chars,
            "edits_share": self.edits,
            "one_edit_from_code_points": edit_neighbors.SHORTEST if self.edits else None,
            "most_edits": edit_neighbors.MOST_EDITS if self.edits else None,
        }

    def describe(self) -> str:
        """Return what is looked for, in words."""
        text = f"{self.chars} shared code points"
        if not self.edits:
            return text
        return (
            f"{text}, or edits up to {self.edits:.0%} of the shorter text (at least 1 from {edit_neighbors.SHORTEST} "
            f"code points on, at most {edit_neighbors.MOST_EDITS})"
        )

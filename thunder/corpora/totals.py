"""What is in a part of a corpus: rows, edits in every unit, and how many rows are of which kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from thunder.text import distance
from thunder.text.distance import ErrorCount, ErrorCounts

UNITS = ("codepoint", "grapheme", "toneless", "word")
KINDS = ("partition", "script", "mode", "origin", "evidence_class")


def counts_of(asr_text: str, reference: str) -> tuple[int, ...]:
    """Edits and reference length by code point, grapheme, without tones and by word: 8 numbers."""
    found = distance.count_all(asr_text, reference)
    return tuple(
        number for unit in UNITS for number in (getattr(found, unit).edits, getattr(found, unit).reference_chars)
    )


def kinds_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Of which kind a row is, in the order of KINDS."""
    return tuple(str(row[kind]) for kind in KINDS)


class Totals:
    """Sums over rows."""

    def __init__(self) -> None:
        self.rows = self.exact = 0
        self.sums = [0] * (2 * len(UNITS))
        self.kinds: Counter[tuple[str, ...]] = Counter()

    def add(self, counts: Sequence[int], kinds: tuple[str, ...]) -> None:
        """Add one row: what `counts_of` and `kinds_of` say of it."""
        self.rows += 1
        self.exact += counts[0] == 0
        self.sums = [total + number for total, number in zip(self.sums, counts, strict=True)]
        self.kinds[kinds] += 1

    @property
    def errors(self) -> ErrorCounts:
        """The edits of all rows."""
        pairs = zip(self.sums[::2], self.sums[1::2], strict=True)
        return ErrorCounts(*(ErrorCount(edits, length) for edits, length in pairs))

    def as_dict(self) -> dict[str, Any]:
        """For the manifest, error rates to six digits."""
        tables: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        for kinds, times in self.kinds.items():
            for kind, value in zip(KINDS, kinds, strict=True):
                tables[kind][value] += times
        rates = {name: None if rate is None else round(rate, 6) for name, rate in self.errors.rates().items()}
        errors = {"edits": self.sums[0], "reference_chars": self.sums[1], "rows_without_error": self.exact}
        return {"rows": self.rows, **rates, **errors} | {
            kind: dict(sorted(table.items())) for kind, table in tables.items()
        }

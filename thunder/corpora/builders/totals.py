"""Sum up a part of a corpus: rows, edits in every unit, and rows of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from thunder.text import distance
from thunder.text.comparable import comparable_text
from thunder.text.distance import ErrorCount, ErrorCounts

UNITS = ("codepoint", "grapheme", "toneless", "word")
KINDS = ("partition", "script", "mode", "origin", "evidence_class")


def edit_counts(asr_text: str, reference: str) -> tuple[int, ...]:
    """Return edits and reference length by code point, grapheme, without tones and by word: 8 numbers."""
    errors = distance.count_all_errors(comparable_text(asr_text), comparable_text(reference))
    return tuple(
        number for unit in UNITS for number in (getattr(errors, unit).edits, getattr(errors, unit).reference_chars)
    )


def row_kinds(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the kinds of a row, in the order of KINDS."""
    return tuple(str(row[kind]) for kind in KINDS)


class PartTotals:
    """Sums over rows."""

    def __init__(self) -> None:
        self.rows = self.exact = self.edits = self.reference_chars = self.measured = 0
        self.sums = [0] * (2 * len(UNITS))
        self.kinds: Counter[tuple[str, ...]] = Counter()

    def add(self, edits: int, reference_chars: int, kinds: tuple[str, ...], counts: Sequence[int] | None) -> None:
        """Add one row: its code points, its `row_kinds` and, where it is measured in every unit, its `edit_counts`."""
        self.rows += 1
        self.exact += edits == 0
        self.edits += edits
        self.reference_chars += reference_chars
        self.kinds[kinds] += 1
        if counts is not None:
            self.measured += 1
            self.sums = [total + number for total, number in zip(self.sums, counts, strict=True)]

    @property
    def errors(self) -> ErrorCounts:
        """The edits of all rows by code point; in other units those of the measured rows."""
        pairs = zip(self.sums[2::2], self.sums[3::2], strict=True)
        other_units = [ErrorCount(edits, length) for edits, length in pairs]
        return ErrorCounts(ErrorCount(self.edits, self.reference_chars), *other_units)

    def as_dict(self) -> dict[str, Any]:
        """The totals for the manifest, error rates to six digits."""
        tables: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        for kinds, times in self.kinds.items():
            for kind, value in zip(KINDS, kinds, strict=True):
                tables[kind][value] += times
        rates = {name: None if rate is None else round(rate, 6) for name, rate in self.errors.rates().items()}
        errors = {"edits": self.edits, "reference_chars": self.reference_chars, "rows_without_error": self.exact}
        errors |= {"rows_measured_in_every_unit": self.measured}
        return {"rows": self.rows, **rates, **errors} | {
            kind: dict(sorted(table.items())) for kind, table in tables.items()
        }

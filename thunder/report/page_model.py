"""Data model of a page before it is HTML: plain texts, not yet escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

# a marked text: plain pieces, and [kind, ...] for differences from the reference; see text_diff.diff_segments
Segment = str | list[str]


@dataclass(frozen=True)
class TableCell:
    """A cell of a table. letter: the text is a character to show large. tone: good, bad or empty."""

    text: str
    letter: bool = False
    tone: str = ""


@dataclass(frozen=True)
class PageTable:
    """Lines under a head; the first column names them. prose: the last column is a sentence."""

    head: Sequence[str]
    lines: Sequence[Sequence[str | TableCell]]
    prose: bool = False


@dataclass(frozen=True)
class PageSection:
    """A part of the page: a chart (a Vega-Lite spec) with its table, or a table alone.

    name: for links and ids, unique on the page. says: a text alternative for the chart.
    """

    name: str
    title: str
    notes: Sequence[str] = ()
    chart: dict[str, Any] | None = None
    says: str = ""
    table: PageTable | None = None


@dataclass(frozen=True)
class TextLine:
    """One text of a row, marked against the reference. of: its label."""

    of: str
    segments: Sequence[Segment]


@dataclass(frozen=True)
class RowView:
    """One row to show. before, after: edits in code points, None without a reference.

    outcome: improved, unchanged, worse, exact, with errors or no reference. reasons: names, for the filter; details:
    the same with the findings, if known. rtl: None lets the text decide.
    """

    row_id: str
    place: int
    lines: Sequence[TextLine]
    outcome: str
    partition: str
    script: str
    before: int | None = None
    after: int | None = None
    units: int | None = None
    decision: str = ""
    reasons: Sequence[str] = ()
    details: Sequence[str] = ()
    rtl: bool | None = None


@dataclass(frozen=True)
class Page:
    """A whole page. absent: what could not be shown and why, one sentence each."""

    title: str
    kind: str
    facts: Sequence[tuple[str, str]] = ()
    cards: Sequence[tuple[str, str]] = ()
    absent: Sequence[str] = ()
    sections: Sequence[PageSection] = ()
    rows: Sequence[RowView] = field(default=())
    rows_notes: Sequence[str] = ()

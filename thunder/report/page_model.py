"""What a page holds, before it is HTML: texts as they are, nothing escaped yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

# a marked text: plain pieces, and [kind, ...] where the text differs from its reference; see rows.segments
Segment = str | list[str]


@dataclass(frozen=True)
class TableCell:
    """A cell of a table. letter: it is a sign to be looked at, large and by itself. tone: good, bad or nothing."""

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
    """A part of the page: a picture (a Vega-Lite spec), the same as a table, or a table alone.

    name: for links and ids, unique on the page. says: what the picture shows, for those who do not see it.
    """

    name: str
    title: str
    notes: Sequence[str] = ()
    chart: dict[str, Any] | None = None
    says: str = ""
    table: PageTable | None = None


@dataclass(frozen=True)
class TextLine:
    """One text of a row, marked against the reference; `of` is what it is called."""

    of: str
    segments: Sequence[Segment]


@dataclass(frozen=True)
class RowView:
    """One row to look at. before, after: edits in code points, None where there is no reference to count from.

    outcome: improved, unchanged, worse, exact, with errors or no reference. reasons: names, for the filter; details:
    the same with what was found, where that is known. rtl: None lets the text decide.
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
    """A whole page. absent: what could not be shown and why, a sentence each. rows: None where there can be none."""

    title: str
    kind: str
    facts: Sequence[tuple[str, str]] = ()
    cards: Sequence[tuple[str, str]] = ()
    absent: Sequence[str] = ()
    sections: Sequence[PageSection] = ()
    rows: Sequence[RowView] = field(default=())
    rows_notes: Sequence[str] = ()

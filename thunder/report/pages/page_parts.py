"""Types of the parts of a page about test rows."""

from __future__ import annotations

from thunder.report.page_model import PageSection, RowView

Cards = list[tuple[str, str]]
TestRowParts = tuple[Cards, list[PageSection], list[RowView], list[str]]

"""The types of the parts that a page about test rows is made of."""

from __future__ import annotations

from thunder.report.page_model import RowView, Section

Cards = list[tuple[str, str]]
Tested = tuple[Cards, list[Section], list[RowView], list[str]]

"""Options of `thunder report` and `thunder agp report`."""

from __future__ import annotations

from thunder.config import Settings, option

PAGE = "Page"


class ReportSettings(Settings):
    """Options of a report page."""

    out: str | None = option(
        None, "File to write (default: report.html in the run's folder, or beside the log).", panel=PAGE
    )
    gate_cer: float | None = option(None, "Draw a line at this CER, which results must stay below.", panel=PAGE, ge=0)
    rows: str | None = option(
        None,
        "JSONL file with the texts and references of the rows, for a log that has digests only or no references.",
        panel=PAGE,
    )

"""Sections on the test rows of a LoRA run: recognized text, the base's answer and the adapter's."""

from __future__ import annotations

from typing import Any

from thunder.evaluation import cases
from thunder.evaluation.cases import Case
from thunder.evaluation.engines import Proposal
from thunder.evaluation.metrics import proposal_flags, summary
from thunder.evaluation.metrics.judge import judge_proposal
from thunder.report.number_format import format_rate
from thunder.report.page_model import PageSection, RowView
from thunder.report.pages import evaluation_page
from thunder.report.pages.page_parts import TestRowParts
from thunder.report.run_files import RunFiles, get_number, get_object, get_text
from thunder.runs.bundles.scored_rows import PREDICTIONS
from thunder.text.row_fields import UNKNOWN

TEXTS = ("asr_text", "reference_text", "prediction_before", "prediction_after")
TOLERANCE = 1e-9  # of a recomputed rate
NOTE = (
    "before is the recognized text, after the adapter's answer; the base's answers stand beside them. A run takes "
    "every answer, no gate decides."
)  # fmt: skip


def adapter_test_parts(
    folder: RunFiles, lines: list[dict[str, Any]], test: dict[str, Any], gate: float | None
) -> TestRowParts:
    """Return cards, sections and rows; everything is recomputed from the texts and compared with results.json."""
    whole = [row for row in lines if all(isinstance(row.get(name), str) for name in TEXTS)]
    if len(whole) < len(lines):
        folder.absent.append(f"{PREDICTIONS}: {len(lines) - len(whole)} of {len(lines)} rows lack a text: left out")
    rows = [_judge_row(row, place) for place, row in enumerate(whole)]
    repair = get_object(test, "repair")
    results = repair if repair.get("rows") == len(rows) and "by" in repair else summary.summarize_rows(rows)
    folder.absent += _rate_mismatches(results, test)
    parts: list[PageSection] = evaluation_page.repair_sections(rows, results, gate)
    views: list[RowView] = [evaluation_page.row_view(row) for row in rows]
    return evaluation_page.summary_cards(results), parts, views, [NOTE]


def _judge_row(row: dict[str, Any], place: int) -> dict[str, Any]:
    """Convert a line of test_predictions.jsonl to a judged row; its own flags are kept."""
    asr_text, reference, before, after = (row[name] for name in TEXTS)
    case = Case(
        place,
        get_text(row, "row_id", "feat_id", "id") or f"row {place + 1}",
        asr_text,
        reference,
        (),
        get_text(row, "partition") or UNKNOWN,
        get_text(row, "script") or cases.script_of_letters(reference),
        get_text(row, "evidence_class"),
    )
    judged_row = judge_proposal(case, Proposal(after, get_number(row, "confidence")), Proposal(before))
    flags = row.get("flags")
    if isinstance(flags, list):  # of tokens that no longer show in the text
        judged_row["flags"] = [name for name in proposal_flags.FLAGS if name in flags]
    return judged_row


def _rate_mismatches(results: dict[str, Any], test: dict[str, Any]) -> list[str]:
    """Return differences between rates of results.json and those of the rows."""
    pairs = {"cer_asr": results["cer_before"], "cer_after": results["cer_after"]}
    return [
        f"results.json has test.{name} {format_rate(stated)}, but the rows give {format_rate(computed)}: "
        "one of the two files was changed"
        for name, computed in pairs.items()
        if (stated := get_number(test, name)) is not None
        and computed is not None
        and abs(stated - computed) > TOLERANCE
    ]

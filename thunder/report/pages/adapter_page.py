"""What the test rows of a LoRA run show: recognised text, the base's answer and the adapter's."""

from __future__ import annotations

from typing import Any

from thunder.evaluation import cases
from thunder.evaluation.cases import Case
from thunder.evaluation.engines import Proposal
from thunder.evaluation.metrics import proposal_flags, summary
from thunder.evaluation.metrics.judge import judge_proposal
from thunder.report.number_format import rate
from thunder.report.page_model import RowView, Section
from thunder.report.pages import evaluation_page
from thunder.report.pages.page_parts import Tested
from thunder.report.run_files import Folder, number_in, object_in, text_in
from thunder.runs.bundles.scored_rows import PREDICTIONS
from thunder.text.row_fields import UNKNOWN

TEXTS = ("asr_text", "reference_text", "prediction_before", "prediction_after")
TOLERANCE = 1e-9  # of a rate that is recomputed
NOTE = (
    "before is the recognised text, after the adapter's answer; the base's answers stand beside them. A run takes "
    "every answer, no gate decides."
)  # fmt: skip


def tested(folder: Folder, lines: list[dict[str, Any]], test: dict[str, Any], gate: float | None) -> Tested:
    """Cards, parts and rows; everything is counted again from the texts, and held against results.json."""
    whole = [row for row in lines if all(isinstance(row.get(name), str) for name in TEXTS)]
    if len(whole) < len(lines):
        folder.absent.append(f"{PREDICTIONS}: {len(lines) - len(whole)} of {len(lines)} rows lack a text: left out")
    rows = [_judged(row, place) for place, row in enumerate(whole)]
    repair = object_in(test, "repair")
    results = repair if repair.get("rows") == len(rows) and "by" in repair else summary.summarize_rows(rows)
    folder.absent += _disagreements(results, test)
    parts: list[Section] = evaluation_page.repair(rows, results, gate)
    views: list[RowView] = [evaluation_page.view(row) for row in rows]
    return evaluation_page.cards(results), parts, views, [NOTE]


def _judged(row: dict[str, Any], place: int) -> dict[str, Any]:
    """A line of test_predictions.jsonl as `judge` would have it; what it says itself of flags stays."""
    asr_text, reference, before, after = (row[name] for name in TEXTS)
    case = Case(
        place,
        text_in(row, "row_id", "feat_id", "id") or f"row {place + 1}",
        asr_text,
        reference,
        (),
        text_in(row, "partition") or UNKNOWN,
        text_in(row, "script") or cases.script_of_letters(reference),
        text_in(row, "evidence_class"),
    )
    found = judge_proposal(case, Proposal(after, number_in(row, "confidence")), Proposal(before))
    said = row.get("flags")
    if isinstance(said, list):  # of tokens that no longer show in the text
        found["flags"] = [name for name in proposal_flags.FLAGS if name in said]
    return found


def _disagreements(results: dict[str, Any], test: dict[str, Any]) -> list[str]:
    """Where results.json says another rate than the rows give."""
    pairs = {"cer_asr": results["cer_before"], "cer_after": results["cer_after"]}
    return [
        f"results.json says test.{name} {rate(stated)}, but the rows give {rate(ours)}: one of them was changed"
        for name, ours in pairs.items()
        if (stated := number_in(test, name)) is not None and ours is not None and abs(stated - ours) > TOLERANCE
    ]

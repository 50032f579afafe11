"""Build the page of an evaluation: the effect of proposals on recognized texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thunder.errors import ArtifactError
from thunder.evaluation.evaluate import PREDICTIONS
from thunder.evaluation.metrics.judge import final_text
from thunder.report import sections, text_diff
from thunder.report.number_format import format_fact, format_interval, format_rate
from thunder.report.page_model import Page, PageSection, RowView, TextLine
from thunder.report.pages import gate_sections
from thunder.report.run_files import RunFiles, get_int, get_object, get_text
from thunder.runs.records.run_record import RESULTS
from thunder.text.row_fields import UNKNOWN

JudgedRow = dict[str, Any]
TEXTS, COUNTS = ("input", "proposal", "reference"), ("edits_before", "edits_after", "reference_units")


def read_evaluation_page(folder: RunFiles, gate: float | None = None) -> Page:
    """Build the page of an evaluation's folder. Raises ArtifactError if it has no results or none of their rows."""
    results = folder.json(RESULTS, "")
    lines = folder.lines(PREDICTIONS, "no rows and no confusions")
    rows = [row for row in lines if _is_judged(row)]
    if len(rows) < len(lines):
        lack = f"{len(lines) - len(rows)} of {len(lines)} rows lack fields of a judged row"
        folder.absent.append(f"{PREDICTIONS}: {lack}: left out")
    if "cer_before" not in results or "by" not in results:
        fix = f"thunder eval --resume {folder.path}"
        raise ArtifactError(f"{folder.path / RESULTS}: no results of an evaluation", fix=fix)
    folder.absent += result_mismatches(rows, results)
    return build_evaluation_page(rows, results, gate, folder.absent)


def _is_judged(row: JudgedRow) -> bool:
    """Whether a line has what a page needs of a judged row."""
    texts = all(isinstance(row.get(name), str) for name in TEXTS)
    counts = all(get_int(get_object(row, name), "codepoint") is not None for name in COUNTS)
    return texts and counts and isinstance(row.get("accepted"), bool)


def build_evaluation_page(
    rows: Sequence[JudgedRow], results: JudgedRow, gate: float | None = None, absent: Sequence[str] = ()
) -> Page:
    """The page; rows as `judge` makes them, results as `summary` does with the fingerprint of the evaluation."""
    evidence = ", ".join(f"{count} {name}" for name, count in results["evidence_class"].items()) or "no rows"
    facts = [
        format_fact(name, value) for name, value in sorted(results.get("ground", {}).items()) if value not in (None, 0)
    ]
    of_rules = get_object(results, "gate")
    facts += [format_fact("rules", text) for text in [get_text(of_rules, "rules_id")] if text]
    behind = gate_sections.decision_sections(rows, gate_sections.gate_notes(of_rules)) if of_rules else []
    counted = (
        f"CER {format_rate(results['cer_before'])} → {format_rate(results['cer_after'])} on {results['rows']} rows"
    )
    return Page(
        title=counted if results["rows"] else f"{len(rows)} row{'s' * (len(rows) != 1)}, none with a reference",
        kind="Evaluation",
        facts=[*facts, ("evidence", evidence)],
        cards=summary_cards(results),
        absent=absent,
        sections=[*behind, *repair_sections(rows, results, gate)],
        rows=[row_view(row) for row in rows],
    )


def repair_sections(rows: Sequence[JudgedRow], results: JudgedRow, gate: float | None) -> list[PageSection]:
    """Return the sections on input against proposal, for evaluations and runs with an adapter."""
    counted = [row for row in rows if row["reference_units"]["codepoint"]]
    if not counted:
        return [*extra_sections(results), sections.flag_section(results)]
    texts = ((row["reference"], row["input"], final_text(row)) for row in counted)
    return [
        sections.partition_section(results["by"]["partition"], gate),
        sections.rate_section(results),
        *extra_sections(results),
        *sections.confusion_sections(text_diff.count_confusions(texts)),
        *sections.group_sections(results),
        sections.flag_section(results),
    ]


def extra_sections(results: JudgedRow) -> list[PageSection]:
    """Return the comparison of base and adapter, and rows without a reference, if there are any."""
    parts = []
    if "base" in results:
        compared = {"base": results["base"], "adapter": results, "base to adapter": results["adapter_over_base"]}
        parts.append(PageSection("base", "Base and adapter", table=sections.group_table(compared)))
    silent = results["empty_reference"]
    if silent["rows"]:
        note = (
            f"{silent['rows']} rows with an empty reference are counted apart: {silent['insertions_before']} code "
            f"points in the inputs, {silent['insertions_after']} after."
        )
        parts.append(PageSection("silent", "Rows without a reference", [note]))
    return parts


def summary_cards(results: JudgedRow) -> list[tuple[str, str]]:
    """Return the main figures, each with its label."""
    observed = f"{results['worse']} of {results['accepted']} seen"
    changed = format_interval(results["cer_change"], results["cer_change_interval95"])
    value, _, bounds = changed.partition(" ")
    return [
        (
            f"{format_rate(results['cer_before'])} → {format_rate(results['cer_after'])}",
            f"CER on {results['rows']} rows",
        ),
        (value, f"change of CER{bounds and ', '}{bounds} (95 %, bootstrap over rows)"),
        (f"{results['improved']} / {results['neutral']} / {results['worse']}", "improved / neutral / worse"),
        (f"{results['worse_upper95']:.1%}", f"of accepted proposals worse at most, 95 % sure ({observed})"),
        (
            f"{results['worse_upper95_of_changed']:.1%}",
            f"of changed inputs worse at most ({results['worse']} of {results['changed']} seen)",
        ),
        (f"{results['exact_before']} → {results['exact_after']}", "rows without any edit"),
        (
            f"{format_rate(results['cer_blind'])} / {format_rate(results['cer_oracle'])}",
            "CER if all were accepted / only the better",
        ),
    ]


def row_view(row: JudgedRow) -> RowView:
    """Return the view of a judged row: reference, input, proposal, and the base's answer if there is one."""
    reference = row["reference"]
    before, after = row["edits_before"]["codepoint"], row["edits_after"]["codepoint"]
    units = row["reference_units"]["codepoint"]
    lines = [
        TextLine("reference", text_diff.plain_segments(reference)),
        TextLine("recognized", text_diff.diff_segments(row["input"], reference)),
    ]
    if "proposal_base" in row:
        lines.append(TextLine("base's answer", text_diff.diff_segments(row["proposal_base"], reference)))
    refused = "" if row["accepted"] or row.get("decision") == "keep" else ", not taken"
    lines.append(TextLine(f"correction{refused}", text_diff.diff_segments(row["proposal"], reference)))
    return RowView(
        row_id=str(row.get("row_id", row.get("place", ""))),
        place=int(row.get("place", 0)),
        lines=lines,
        outcome=row_outcome(before, after) if units else "no reference",
        partition=str(row.get("partition") or UNKNOWN),
        script=str(row.get("script") or UNKNOWN),
        before=before,
        after=after,
        units=units,
        decision=get_text(row, "decision")
        or ("reject" if not row["accepted"] else "accept" if row.get("changed") else "keep"),
        reasons=list(dict.fromkeys([*gate_sections.rule_names(row), *map(str, row.get("flags", ()))])),
        details=gate_sections.reason_details(row),
        rtl=is_right_to_left(row.get("script")),
    )


def row_outcome(before: int, after: int) -> str:
    """Return the outcome of a row by its edits."""
    return "improved" if after < before else "worse" if after > before else "unchanged"


def is_right_to_left(script: Any) -> bool | None:
    """Whether a script runs from right to left; None: the text decides."""
    return {"nko": True, "latin": False}.get(script) if isinstance(script, str) else None


def result_mismatches(rows: Sequence[JudgedRow], results: JudgedRow) -> list[str]:
    """Return differences between the results and the sums over the rows, which show that one of them was changed."""
    counted = [row for row in rows if row["reference_units"]["codepoint"]]
    sums = {
        "rows": len(counted),
        "edits_before": sum(row["edits_before"]["codepoint"] for row in counted),
        "edits_after": sum(row["edits_after"]["codepoint"] for row in counted),
    }
    return [
        f"{RESULTS} says {name} {results.get(name)}, but {PREDICTIONS} adds up to {number}: one of them was changed"
        for name, number in sums.items()
        if results.get(name) != number
    ]

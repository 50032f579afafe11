"""Compare a proposal with its reference: edits before and after in every unit, and flags."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from thunder.evaluation.cases import Case
from thunder.evaluation.engines import Proposal
from thunder.evaluation.metrics import proposal_flags
from thunder.text import distance
from thunder.text.comparable import comparable_text
from thunder.text.distance import ErrorCounts

UNITS = tuple(each.name for each in fields(ErrorCounts))


def judge_proposal(
    case: Case, proposal: Proposal, base: Proposal | None = None, normalize: str = "none"
) -> dict[str, Any]:
    """A line of predictions.jsonl.

    `edits_before` are those of the input, `edits_proposal` of the proposal, `edits_after` of the final text: the
    proposal where it is accepted, else the input. `edits_base` and `proposal_base` are present where the base answered
    too. Texts are compared as `comparable_text` returns them; a row names a normalization other than "none".
    """

    def form(text: str) -> str:
        return comparable_text(text, normalize)

    reference = form(case.reference)
    before = distance.count_all_errors(form(case.input), reference)
    of_proposal = distance.count_all_errors(form(proposal.text), reference)
    row: dict[str, Any] = {
        "place": case.place,
        "row_id": case.row_id,
        "input": case.input,
        "proposal": proposal.text,
        "reference": case.reference,
        "accepted": proposal.accepted,
        "changed": form(proposal.text) != form(case.input),
        "partition": case.partition,
        "script": case.script,
        "evidence_class": case.evidence_class,
        "confidence": proposal.confidence,
        "seconds": round(proposal.seconds, 4),
        "tokens": proposal.tokens,
        "windows": proposal.windows,
        "flags": proposal_flags.find_flags(proposal, case.input),
        "reference_units": _by_unit(before, "reference_chars"),
        "edits_before": _by_unit(before, "edits"),
        "edits_proposal": _by_unit(of_proposal, "edits"),
        "edits_after": _by_unit(of_proposal if proposal.accepted else before, "edits"),
    }
    if base is not None:
        row["proposal_base"] = base.text
        row["confidence_base"] = base.confidence
        row["changed_base"] = form(base.text) != form(case.input)
        row["flags_base"] = proposal_flags.find_flags(base, case.input)
        row["edits_base"] = _by_unit(distance.count_all_errors(form(base.text), reference), "edits")
    return row if normalize == "none" else row | {"normalize": normalize}


def final_text(row: dict[str, Any]) -> str:
    """The final text of a judged row."""
    return row["proposal"] if row["accepted"] else row["input"]


def _by_unit(counts: ErrorCounts, what: str) -> dict[str, int]:
    return {unit: getattr(getattr(counts, unit), what) for unit in UNITS}

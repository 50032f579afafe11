"""The gate: decide whether a proposal replaces the recognized text, with every reason (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from thunder.bridge.gate import invariants
from thunder.bridge.gate.gate_rules import GateRules, PartitionBudget, Rulebook
from thunder.bridge.gate.invariants import BrokenRule
from thunder.corpora.rows.correction_rows import row_script
from thunder.evaluation.engines import Proposal
from thunder.text import distance
from thunder.text.normalize import normalize_text

GateDecision = Literal["accept", "reject", "keep"]
NOVELTY = "novelty"
# rules after the invariants: budgets of a partition, and rules that are not about the text
SOFT_RULES = {
    "edits": "more edits than the partition allows",
    "ratio": "more edits than the partition allows for the input's length",
    "confidence": "the proposer is not confident enough, or does not report its confidence",
    "margin": "the proposal is not likelier than the input by enough, or the margin is not reported",
    "withheld": "the proposer withholds its proposal, or has none",
    "breaker": "the whole batch was stopped",
}
ALL_RULES = {**invariants.TEXT_RULES, **invariants.CHANGE_RULES, **SOFT_RULES}
LARGEST = 1e300
SCALARS = ("novelty", "uncertainty", "transition_pressure", "commitment")


@dataclass(frozen=True)
class GateEvidence:
    """The input of the gate.

    asked: the recognized text. proposal: with its mean log-probability and its margin in nats, where known. partition,
    script: of the row, or None. spans: code points [start, end) of `asked` that may be edited, or None where the row
    does not restrict edits. scalars: of the trajectory, by name.
    """

    asked: str
    proposal: Proposal
    partition: str | None = None
    script: str | None = None
    spans: tuple[tuple[int, int], ...] | None = None
    scalars: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class GateVerdict:
    """The decision on a proposal, with its reasons and measurements.

    text: the proposal (NFC, trimmed) where it is accepted, else the recognized text unchanged. reasons: every broken
    rule; where the decision is keep, the rules that the input itself breaks. admissible: whether `text` may be used
    without a human check. edits: code points between input and proposal. chars: code points of the input. confidence: 0
    to 1. margin: nats per code point.
    """

    decision: GateDecision
    text: str
    reasons: tuple[BrokenRule, ...]
    admissible: bool
    partition: str
    partition_source: str
    script: str
    edits: int
    chars: int
    confidence: float | None
    margin: float | None

    @property
    def ratio(self) -> float:
        """Edits per code point of the input."""
        return self.edits / max(1, self.chars)


def decide_proposal(evidence: GateEvidence, book: Rulebook) -> GateVerdict:
    """Decide on a proposal by the rules.

    A proposal that differs from the input in normal form and the amount of space only is kept. Otherwise one broken
    rule rejects it.
    """
    proposal = evidence.proposal
    asked, text = normalize_text(evidence.asked).strip(), normalize_text(proposal.text).strip()
    partition, source = resolve_partition(evidence.partition, evidence.scalars, book)
    script, budget = evidence.script or row_script(asked), book.budgets[partition]
    # a kept text is used unchanged, with everything that normalization removes
    of_input = tuple(invariants.check_text(normalize_text(evidence.asked), script, book.rules))
    verdict = GateVerdict(
        decision="keep",
        text=evidence.asked,
        reasons=of_input,
        admissible=not of_input and not budget.review,
        partition=partition,
        partition_source=source,
        script=script,
        edits=distance.edit_distance(text, asked),
        chars=len(asked),
        confidence=_probability(proposal.confidence),
        margin=_finite(proposal.margin),
    )
    if proposal.accepted and text.split() == asked.split():
        return verdict
    reasons = [
        *invariants.check_text(text, script, book.rules),
        *invariants.check_change(asked, text, script, book.rules),
    ]
    if not proposal.finished:
        reasons.append(BrokenRule("unfinished", invariants.CHANGE_RULES["unfinished"]))
    if evidence.spans is not None:
        spans = _spans_of_trimmed(evidence.spans, evidence.asked)
        reasons += invariants.check_spans(asked, text, spans, book.rules.span_slack)
    reasons += _over_budget(verdict, budget)
    if not proposal.accepted:
        reasons.append(BrokenRule("withheld", SOFT_RULES["withheld"]))
    if reasons:
        return replace(verdict, decision="reject", reasons=tuple(reasons), admissible=False)
    return replace(verdict, decision="accept", text=text, reasons=(), admissible=True)


def resolve_partition(given: str | None, scalars: Mapping[str, Any] | None, book: Rulebook) -> tuple[str, str]:
    """The partition that counts, and its source: given, derived (from scalars), unknown or missing.

    A partition without a budget in the rules is unknown; recovery has none in agp_rules_v1. Unknown ones are novelty.
    """
    rules = book.rules
    if given is not None:
        return (given, "given") if given in book.budgets else (NOVELTY, "unknown")
    numbers: dict[str, float] = {name: value for name, value in (scalars or {}).items() if _is_number(value)}
    if not numbers.keys() >= set(SCALARS):
        return NOVELTY, "missing"
    if numbers["novelty"] >= rules.derived_novelty:
        return NOVELTY, "derived"
    if numbers["uncertainty"] >= rules.derived_uncertainty:
        return "uncertain", "derived"
    moving = abs(numbers["transition_pressure"]) >= rules.derived_transition
    return ("boundary" if moving or numbers["commitment"] < rules.derived_commitment else "stable"), "derived"


def breaker_reason(verdicts: Sequence[GateVerdict], rules: GateRules) -> str | None:
    """Why a whole batch is stopped: too many of its rows are changed, or rejected. None where it is not."""
    rows = len(verdicts)
    if rows < rules.breaker_rows:
        return None
    counts = {kind: sum(each.decision == kind for each in verdicts) for kind in ("accept", "reject")}
    if counts["accept"] * 100 > rules.breaker_changed_percent * rows:
        return f"{counts['accept']} of {rows} rows would be changed; the limit is {rules.breaker_changed_percent} %"
    if counts["reject"] * 100 > rules.breaker_rejected_percent * rows:
        return f"{counts['reject']} of {rows} rows are rejected; the limit is {rules.breaker_rejected_percent} %"
    return None


def reject_with_batch(verdict: GateVerdict, asked: str, reason: str) -> GateVerdict:
    """The verdict on a row of a stopped batch: its text stays unchanged and is not admissible."""
    decision: GateDecision = "reject" if verdict.decision == "accept" else verdict.decision
    reasons = (*verdict.reasons, BrokenRule("breaker", reason))
    return replace(verdict, decision=decision, text=asked, reasons=reasons, admissible=False)


def _over_budget(verdict: GateVerdict, budget: PartitionBudget) -> list[BrokenRule]:
    """The budget rules of the partition that are broken; a missing measurement breaks a limit that needs it."""
    reasons, name, chars = [], verdict.partition, max(1, verdict.chars)
    most = max(budget.max_edits, chars * budget.max_edits_percent // 100)
    if verdict.edits > most:
        reasons.append(BrokenRule("edits", f"{verdict.edits} edits; {name} allows {most} here"))
    if verdict.edits * 100 > budget.max_ratio_percent * chars:
        reasons.append(
            BrokenRule("ratio", f"{verdict.edits} edits of {chars} code points; {name}: {budget.max_ratio_percent} %")
        )
    least = budget.min_confidence
    if least is not None and (verdict.confidence is None or verdict.confidence < least):
        reasons.append(BrokenRule("confidence", f"{_shown(verdict.confidence)}; {name} needs {least}"))
    least = budget.min_margin
    # a proposer that reports no margin passes a limit of 0; one that reports a negative margin does not
    if least is not None and (least > 0 if verdict.margin is None else verdict.margin < least):
        reasons.append(BrokenRule("margin", f"{_shown(verdict.margin)}; {name} needs {least}"))
    return reasons


def _probability(mean_log: float | None) -> float | None:
    """exp of a mean log-probability; None where that is not a number, or is above 0."""
    value = _finite(mean_log)
    return None if value is None or value > 0 else math.exp(value)


def _finite(value: float | None) -> float | None:
    return value if _is_number(value) else None


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number; whole numbers of JSON can exceed every float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _spans_of_trimmed(spans: Sequence[tuple[int, int]], asked: str) -> list[tuple[int, int]]:
    """Spans of a text as spans of the text without its leading space."""
    offset = len(asked) - len(asked.lstrip())
    return [(start - offset, end - offset) for start, end in spans]


def _shown(value: float | None) -> str:
    return "not reported" if value is None else f"{value:.3f}"

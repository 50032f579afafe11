"""The gate: from a proposal and the evidence for it to a verdict with all of its reasons, and nothing else."""

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
from thunder.text.row_fields import PARTITIONS

GateDecision = Literal["accept", "reject", "keep"]
NOVELTY = "novelty"
# budgets of a partition, after the hard rules; and what is not about the text
SOFT_RULES = {
    "edits": "more edits than the partition allows",
    "ratio": "more edits than the partition allows for the input's length",
    "confidence": "the proposer is not sure enough, or does not say how sure it is",
    "margin": "not likelier enough than leaving the input alone, or not said",
    "withheld": "the proposer takes its proposal back, or has none",
    "breaker": "the batch as a whole was stopped",
}
ALL_RULES = {**invariants.TEXT_RULES, **invariants.CHANGE_RULES, **SOFT_RULES}
LARGEST = 1e300
SCALARS = ("novelty", "uncertainty", "transition_pressure", "commitment")


@dataclass(frozen=True)
class GateEvidence:
    """What the gate looks at.

    asked: the recognised text. proposal: with its mean log-probability and its margin in nats, where there are any.
    partition, script: as the row says them, or None. spans: code points [start, end) of `asked` that may be edited, or
    None where the row does not say. scalars: of the trajectory, by name.
    """

    asked: str
    proposal: Proposal
    partition: str | None = None
    script: str | None = None
    spans: tuple[tuple[int, int], ...] | None = None
    scalars: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class GateVerdict:
    """What became of a proposal.

    text: the proposal (NFC, trimmed) where it is accepted, else the recognised text as it came. reasons: every rule
    that was broken; by the input itself where the decision is keep. admissible: whether `text` may go on without a
    person. edits: between both; chars: of the input (code points). confidence: 0 to 1. margin: nats per code point.
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
    """Hold a proposal against the rules.

    Unchanged text (but for normal form and the amount of space) is kept; else one broken rule rejects it.
    """
    proposal = evidence.proposal
    asked, text = normalize_text(evidence.asked).strip(), normalize_text(proposal.text).strip()
    partition, source = resolve_partition(evidence.partition, evidence.scalars, book.rules)
    script, budget = evidence.script or row_script(asked), book.budgets[partition]
    # what is kept goes on as it came, with all that a comparison passes over
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


def resolve_partition(given: str | None, scalars: Mapping[str, Any] | None, rules: GateRules) -> tuple[str, str]:
    """The partition that counts, and why: given, derived (from scalars), unknown (a strange name) or missing."""
    if given is not None:
        return (given, "given") if given in PARTITIONS else (NOVELTY, "unknown")
    said: dict[str, float] = {name: value for name, value in (scalars or {}).items() if _is_number(value)}
    if not said.keys() >= set(SCALARS):
        return NOVELTY, "missing"
    if said["novelty"] >= rules.derived_novelty:
        return NOVELTY, "derived"
    if said["uncertainty"] >= rules.derived_uncertainty:
        return "uncertain", "derived"
    moving = abs(said["transition_pressure"]) >= rules.derived_transition
    return ("boundary" if moving or said["commitment"] < rules.derived_commitment else "stable"), "derived"


def breaker_reason(verdicts: Sequence[GateVerdict], rules: GateRules) -> str | None:
    """Why a batch must not go on as a whole: too much of it is changed, or rejected; None where it may."""
    rows = len(verdicts)
    if rows < rules.breaker_rows:
        return None
    counts = {kind: sum(each.decision == kind for each in verdicts) for kind in ("accept", "reject")}
    if counts["accept"] * 100 > rules.breaker_changed_percent * rows:
        return f"{counts['accept']} of {rows} rows would be changed; at most {rules.breaker_changed_percent} % may be"
    if counts["reject"] * 100 > rules.breaker_rejected_percent * rows:
        return f"{counts['reject']} of {rows} rows are rejected; at most {rules.breaker_rejected_percent} % may be"
    return None


def reject_with_batch(verdict: GateVerdict, asked: str, why: str) -> GateVerdict:
    """The verdict on a row of a batch that is broken: nothing of it is changed or admissible."""
    decision: GateDecision = "reject" if verdict.decision == "accept" else verdict.decision
    reasons = (*verdict.reasons, BrokenRule("breaker", why))
    return replace(verdict, decision=decision, text=asked, reasons=reasons, admissible=False)


def _over_budget(verdict: GateVerdict, budget: PartitionBudget) -> list[BrokenRule]:
    """Reasons by the partition's budget; a measure that is missing fails a limit that needs it."""
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
    # a limit of 0 is kept by a proposer that does not tell a margin, but not by one that tells a negative one
    if least is not None and (least > 0 if verdict.margin is None else verdict.margin < least):
        reasons.append(BrokenRule("margin", f"{_shown(verdict.margin)}; {name} needs {least}"))
    return reasons


def _probability(mean_log: float | None) -> float | None:
    """exp of a mean log-probability; None where that is none: not a number, or more than 0."""
    value = _finite(mean_log)
    return None if value is None or value > 0 else math.exp(value)


def _finite(value: float | None) -> float | None:
    return value if _is_number(value) else None


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number; whole numbers of JSON can be too large for any float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _spans_of_trimmed(spans: Sequence[tuple[int, int]], asked: str) -> list[tuple[int, int]]:
    """Spans of a text as spans of it without the space before it."""
    ahead = len(asked) - len(asked.lstrip())
    return [(start - ahead, end - ahead) for start, end in spans]


def _shown(value: float | None) -> str:
    return "not said" if value is None else f"{value:.3f}"

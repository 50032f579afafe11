"""Score the gate on rows with references: which proposals it accepts, and whether they help or harm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from thunder.bridge.decisions import gate_evidence
from thunder.bridge.gate import gate
from thunder.bridge.gate.gate import GateVerdict
from thunder.bridge.gate.gate_rules import Rulebook
from thunder.corpora.rows.correction_rows import EVIDENCE
from thunder.errors import CorpusError, combined_error
from thunder.evaluation.cases import Case, EvaluationSet
from thunder.evaluation.engines import PROPOSAL_KEYS, FileEngine, OnFinished, OracleEngine, Proposal, ignore_progress
from thunder.evaluation.metrics.judge import judge_proposal
from thunder.evaluation.metrics.summary import group_order

JudgedRow = dict[str, Any]
DECISIONS = ("accept", "reject", "keep")
UNKNOWN_EVIDENCE, PREDICTION_ONLY = "not said", "prediction_only"
CERTAIN_MARGIN = 1000.0  # nats per code point; above every limit of the gate


class CertainOracleEngine(OracleEngine):
    """Proposes the reference with full confidence: it shows which correct proposals the gate rejects."""

    def propose(self, cases: Sequence[Case], finished: OnFinished = ignore_progress) -> Iterator[Proposal]:
        """See ProposalEngine. Raises CorpusError that names the rows without a reference."""
        if missing := [f"row '{case.row_id}' has no reference" for case in cases if not case.reference.strip()]:
            raise combined_error(
                CorpusError, "the oracle needs a reference for each row:", missing, fix="another --engine"
            )
        return (Proposal(case.reference, confidence=0.0, margin=CERTAIN_MARGIN) for case in cases)


def recorded_proposals(cases: EvaluationSet) -> FileEngine:
    """The proposals that the rows themselves hold. Raises CorpusError where a row holds none."""
    if not any(name in case.fields for case in cases.cases for name in PROPOSAL_KEYS):
        raise CorpusError(
            f"{cases.path}: no row holds a proposal ({', '.join(PROPOSAL_KEYS)})",
            fix="--engine mlx --adapter-path FOLDER, or --engine file:PATH",
        )
    return FileEngine(cases.path, cases.all_ids)


class GateScorer:
    """Decides on each proposal by the rules, and sums up the decisions."""

    def __init__(self, book: Rulebook) -> None:
        self.book = book
        self.verdicts: list[GateVerdict] = []

    def judge(self, case: Case, proposal: Proposal, base: Proposal | None = None) -> JudgedRow:
        """A row of predictions.jsonl with the gate's decision on it.

        A recorded "accepted" is the decision of another gate and does not count here. The partition is the one that the
        gate used. The base's answer is replaced with the text that this gate would output for it.
        """
        verdict = self._verdict(case, proposal)
        self.verdicts.append(verdict)
        base = replace(base, text=self._verdict(case, base).text) if base else None
        return judge_proposal(case, replace(proposal, accepted=verdict.decision == "accept"), base) | {
            "decision": verdict.decision,
            "admissible": verdict.admissible,
            "partition": verdict.partition,
            "partition_source": verdict.partition_source,
            "script": verdict.script,
            "margin": proposal.margin,
            "reasons": [list(reason) for reason in verdict.reasons],
        }

    def _verdict(self, case: Case, proposal: Proposal) -> GateVerdict:
        return gate.decide_proposal(gate_evidence(case, replace(proposal, accepted=True)), self.book)

    def add_up(self, rows: Sequence[JudgedRow]) -> dict[str, Any]:
        """The part of results.json about the gate. rows: as `judge` makes them.

        reasons: rejected rows by rule; a row counts for each of its rules. refused: the effect that the rejected
        proposals would have had (rows with a reference). breaker: why `thunder agp propose` would have stopped these
        rows as one batch; the other counts here ignore it.
        """
        rejected = [row for row in rows if row["decision"] == "reject"]
        reasons = Counter(rule for row in rejected for rule, _ in row["reasons"])
        partitions = sorted({row["partition"] for row in rows}, key=group_order)
        return {
            "gate": {
                "rules_id": self.book.id,
                "evidence_class": weakest_evidence_class(rows),
                "decisions": _count_decisions(rows),
                "by_partition": {
                    name: _count_decisions([r for r in rows if r["partition"] == name]) for name in partitions
                },
                "admissible": sum(row["admissible"] for row in rows),
                "reasons": {rule: reasons[rule] for rule in gate.ALL_RULES if reasons[rule]},
                "refused": _effect_of_refused([row for row in rejected if row["reference_units"]["codepoint"]]),
                "breaker": gate.breaker_reason(self.verdicts, self.book.rules),
            }
        }


def weakest_evidence_class(rows: Sequence[JudgedRow]) -> str:
    """The evidence class of some rows: the weakest class among them, or prediction_only without any reference."""
    if not any(row["reference_units"]["codepoint"] for row in rows):
        return PREDICTION_ONLY
    classes = {row["evidence_class"] or UNKNOWN_EVIDENCE for row in rows}
    unknown = sorted(classes.difference(EVIDENCE))
    # evidence of another provenance is weaker than evidence of the same one
    order = [UNKNOWN_EVIDENCE, *unknown, *EVIDENCE[:-2], *reversed(EVIDENCE[-2:])]
    return min(classes, key=order.index)


def _count_decisions(rows: Sequence[JudgedRow]) -> dict[str, int]:
    return {kind: sum(row["decision"] == kind for row in rows) for kind in DECISIONS}


def _effect_of_refused(rows: Sequence[JudgedRow]) -> dict[str, int]:
    change = [row["edits_proposal"]["codepoint"] - row["edits_before"]["codepoint"] for row in rows]
    return {
        "better": sum(edits < 0 for edits in change),
        "same": sum(edits == 0 for edits in change),
        "worse": sum(edits > 0 for edits in change),
    }

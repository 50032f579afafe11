"""What the gate would let through of proposals whose references are known: who gains, who loses, what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from thunder.bridge.decisions import evidence
from thunder.bridge.gate import gate
from thunder.bridge.gate.gate import Verdict
from thunder.bridge.gate.gate_rules import Rulebook
from thunder.corpora.rows.correction_rows import EVIDENCE
from thunder.errors import CorpusError, combined_error
from thunder.evaluation.cases import Case, Cases
from thunder.evaluation.engines import PROPOSALS, Finished, FromFile, Oracle, Proposal, nothing
from thunder.evaluation.metrics.judge import judged
from thunder.evaluation.metrics.summary import place

JudgedRow = dict[str, Any]
DECISIONS = ("accept", "reject", "keep")
NOT_SAID, PREDICTION_ONLY = "not said", "prediction_only"
SURE = 1000.0  # nats per code point: more than any limit of the gate


class SureOracle(Oracle):
    """Proposes the reference and could not be surer: what the gate refuses of it, it refuses of the best there is."""

    def propose(self, cases: Sequence[Case], finished: Finished = nothing) -> Iterator[Proposal]:
        """See Engine. Raises CorpusError that names the rows without a reference."""
        if bare := [f"row '{case.row_id}' has no reference" for case in cases if not case.reference.strip()]:
            raise combined_error(
                CorpusError, "there is nothing for the oracle to propose:", bare, fix="another --engine"
            )
        return (Proposal(case.reference, confidence=0.0, margin=SURE) for case in cases)


def recorded(cases: Cases) -> FromFile:
    """The proposals that stand in the rows themselves. Raises CorpusError where there are none, or not in every row."""
    if not any(name in case.fields for case in cases.cases for name in PROPOSALS):
        raise CorpusError(
            f"{cases.path}: no row holds a proposal ({', '.join(PROPOSALS)})",
            fix="--engine mlx --adapter-path FOLDER, or --engine file:PATH",
        )
    return FromFile(cases.path, cases.all_ids)


class Scorer:
    """Holds proposals against the rules as rows come, one decision each, and adds up what became of them."""

    def __init__(self, book: Rulebook) -> None:
        self.book = book
        self.verdicts: list[Verdict] = []

    def judge(self, case: Case, proposal: Proposal, base: Proposal | None = None) -> JudgedRow:
        """A row of predictions.jsonl with the gate's decision on it.

        A recorded "accepted" is another gate's word; here this one's counts. The partition is the one that counted. Of
        the base's answer stands what this gate would leave of it.
        """
        verdict = self._verdict(case, proposal)
        self.verdicts.append(verdict)
        base = replace(base, text=self._verdict(case, base).text) if base else None
        return judged(case, replace(proposal, accepted=verdict.decision == "accept"), base) | {
            "decision": verdict.decision,
            "admissible": verdict.admissible,
            "partition": verdict.partition,
            "partition_source": verdict.partition_source,
            "script": verdict.script,
            "margin": proposal.margin,
            "reasons": [list(reason) for reason in verdict.reasons],
        }

    def _verdict(self, case: Case, proposal: Proposal) -> Verdict:
        return gate.decide(evidence(case, replace(proposal, accepted=True)), self.book)

    def add_up(self, rows: Sequence[JudgedRow]) -> dict[str, Any]:
        """What results.json says of the gate; rows as `judge` makes them.

        reasons: rejected rows by rule, a row with several counts for each. refused: what taking the rejected proposals
        would have done (rows with a reference). breaker: why `thunder agp propose` would have stopped these rows as one
        batch; what is counted here is counted without it.
        """
        rejected = [row for row in rows if row["decision"] == "reject"]
        reasons = Counter(rule for row in rejected for rule, _ in row["reasons"])
        partitions = sorted({row["partition"] for row in rows}, key=place)
        return {
            "gate": {
                "rules_id": self.book.id,
                "evidence_class": evidence_class(rows),
                "decisions": _decisions(rows),
                "by_partition": {name: _decisions([r for r in rows if r["partition"] == name]) for name in partitions},
                "admissible": sum(row["admissible"] for row in rows),
                "reasons": {rule: reasons[rule] for rule in gate.RULES if reasons[rule]},
                "refused": _refused([row for row in rejected if row["reference_units"]["codepoint"]]),
                "breaker": gate.broken(self.verdicts, self.book.rules),
            }
        }


def evidence_class(rows: Sequence[JudgedRow]) -> str:
    """What rows are evidence of as a whole: the weakest class among them; without any reference, predictions only."""
    if not any(row["reference_units"]["codepoint"] for row in rows):
        return PREDICTION_ONLY
    said = {row["evidence_class"] or NOT_SAID for row in rows}
    strange = sorted(said.difference(EVIDENCE))
    # any other provenance is weaker than the same one
    order = [NOT_SAID, *strange, *EVIDENCE[:-2], *reversed(EVIDENCE[-2:])]
    return min(said, key=order.index)


def _decisions(rows: Sequence[JudgedRow]) -> dict[str, int]:
    return {kind: sum(row["decision"] == kind for row in rows) for kind in DECISIONS}


def _refused(rows: Sequence[JudgedRow]) -> dict[str, int]:
    change = [row["edits_proposal"]["codepoint"] - row["edits_before"]["codepoint"] for row in rows]
    return {
        "better": sum(edits < 0 for edits in change),
        "same": sum(edits == 0 for edits in change),
        "worse": sum(edits > 0 for edits in change),
    }

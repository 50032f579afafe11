"""Decide on proposals: the verdict of the gate, the record for the log, and the token of an admissible text."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from thunder import digest
from thunder.bridge.gate import gate
from thunder.bridge.gate.gate import GateEvidence, GateVerdict
from thunder.bridge.gate.gate_rules import Rulebook
from thunder.bridge.proof import admissibility
from thunder.bridge.proof.admissibility import TokenClaims, text_digest
from thunder.bridge.proof.keys import KeyRing
from thunder.evaluation.cases import Case
from thunder.evaluation.engines import Proposal, ProposalEngine

MILLION = 1_000_000


@dataclass(frozen=True)
class SignedDecision:
    """The decision on one row. record: for the provenance log. token: None where the text is not admissible."""

    case: Case
    proposal: Proposal
    verdict: GateVerdict
    record: dict[str, Any]
    token: str | None


class ProposalDecider:
    """Decides on the proposals of one engine, by one set of rules, and signs with one key ring."""

    def __init__(
        self,
        engine: ProposalEngine,
        book: Rulebook,
        ring: KeyRing,
        texts: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """texts: whether records hold the texts, or only their digests."""
        self.book, self.ring, self._texts, self._clock = book, ring, texts, clock
        description = engine.describe()
        self.base_digest, self.adapter_digest = description.get("base_sha256"), description.get("adapter_sha256")
        self.decode_digest = digest.sha256_json(description)

    def decide(self, case: Case, proposal: Proposal, request_id: str = "") -> SignedDecision:
        """Decide on one row."""
        return self._signed(case, proposal, gate.decide_proposal(gate_evidence(case, proposal), self.book), request_id)

    def decide_batch(
        self, cases: Sequence[Case], proposals: Sequence[Proposal], request_id: str = ""
    ) -> tuple[list[SignedDecision], str | None]:
        """Decide on rows that form one batch. The second value is the breaker's reason where the batch is stopped."""
        pairs = list(zip(cases, proposals, strict=True))
        verdicts = [gate.decide_proposal(gate_evidence(*pair), self.book) for pair in pairs]
        reason = gate.breaker_reason(verdicts, self.book.rules)
        if reason:
            verdicts = [
                gate.reject_with_batch(each, case.input, reason) for case, each in zip(cases, verdicts, strict=True)
            ]
        made = zip(pairs, verdicts, strict=True)
        return [self._signed(case, proposal, verdict, request_id) for (case, proposal), verdict in made], reason

    def _signed(self, case: Case, proposal: Proposal, verdict: GateVerdict, request_id: str) -> SignedDecision:
        now = self._clock()
        claims = TokenClaims(
            kid=self.ring.active,
            iat=int(now),
            rid=secrets.token_hex(16),
            row_id=case.row_id,
            input_sha256=text_digest(case.input),
            proposal_sha256=text_digest(proposal.text),
            output_sha256=text_digest(verdict.text),
            base_digest=self.base_digest,
            adapter_digest=self.adapter_digest,
            prompt_digest=digest.sha256_json(case.messages),
            decode_digest=self.decode_digest,
            rules_id=self.book.id,
            partition=verdict.partition,
            decision=verdict.decision,
            edits=verdict.edits,
            ratio_e6=verdict.edits * MILLION // max(1, verdict.chars),
            conf_e6=None if verdict.confidence is None else round(verdict.confidence * MILLION),
        )
        token = admissibility.issue_token(claims, self.ring) if verdict.admissible else None
        record: dict[str, Any] = {
            "kind": "decision",
            "time_ms": int(now * 1000),
            "request_id": request_id,
            **{name: value for name, value in vars(claims).items() if name not in ("v", "kid", "iat")},
            "partition_source": verdict.partition_source,
            "script": verdict.script,
            "margin_e6": None if verdict.margin is None else round(verdict.margin * MILLION),
            "reasons": [list(reason) for reason in verdict.reasons],
            "token_sha256": token and text_digest(token),
        }
        if self._texts:
            record |= {"input": case.input, "proposal": proposal.text, "output": verdict.text}
        return SignedDecision(case, proposal, verdict, record, token)


def gate_evidence(case: Case, proposal: Proposal) -> GateEvidence:
    """The evidence of a row for the gate; a field of the wrong type counts as absent."""
    partition, script = case.fields.get("partition"), case.fields.get("script")
    scalars, spans = case.fields.get("trajectory_scalars"), case.fields.get("spans")
    return GateEvidence(
        case.input,
        proposal,
        # a partition of another type is an unknown partition, not an absent one
        partition if partition is None or isinstance(partition, str) else str(partition),
        script if isinstance(script, str) and script else None,
        None if spans is None else _parse_spans(spans),
        scalars if isinstance(scalars, dict) else None,
    )


def _parse_spans(spans: Any) -> tuple[tuple[int, int], ...]:
    """Pairs of whole numbers. Where one is not, there are no spans, so that no edit is allowed."""
    if not isinstance(spans, list | tuple):
        return ()
    pairs = [tuple(pair) for pair in spans if isinstance(pair, list | tuple) and list(map(type, pair)) == [int, int]]
    return tuple(pairs) if len(pairs) == len(spans) else ()

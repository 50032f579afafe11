"""Who proposes on the bridge, and a whole file of rows over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from thunder.bridge import http_proposer
from thunder.bridge.bridge_settings import ProposerSettings
from thunder.bridge.decisions import ProposalDecider, SignedDecision
from thunder.bridge.gate import gate_rules
from thunder.bridge.gate.gate_rules import Rulebook
from thunder.bridge.proof import keys
from thunder.bridge.proof.keys import KeyRing
from thunder.bridge.proof.provenance import ProvenanceLog
from thunder.errors import UsageError
from thunder.evaluation import cases
from thunder.evaluation.cases import Case
from thunder.evaluation.engines import FileEngine, IdentityEngine, ProposalEngine

RECORDS_PER_WRITE = 512  # records that are written to the log together
REMOTE_KINDS = ("http", "https")
KINDS_WITH_LOCATION = ("file", *REMOTE_KINDS)  # engines that are named with the place where they are
UNLIKE_TEXTS = ("ߊ", "5", "a b")  # what prompts for such texts have in common, all have


def load_rulebook(settings: ProposerSettings) -> Rulebook:
    """The rules that the settings name. Raises ConfigError."""
    return (
        gate_rules.read_gate_rules(Path(settings.gate_rules).expanduser())
        if settings.gate_rules
        else gate_rules.read_gate_rules()
    )


def check_engine_options(settings: ProposerSettings, more: Sequence[str] = ()) -> None:
    """See that the engine is one and its options fit, before anything is loaded. Raises UsageError.

    more: engines that this command has besides.
    """
    kind, colon, path = settings.engine.partition(":")
    plain = ("mlx", "identity", *more)
    if not (kind in KINDS_WITH_LOCATION and path) and (kind not in plain or colon):
        known = ", ".join([*plain, "file:PATH", "http://HOST:PORT"])
        raise UsageError(f"--engine {settings.engine}: there is no such engine here", fix=f"one of: {known}")
    if kind != "mlx" and (settings.model or settings.adapter_path):
        raise UsageError(f"--engine {settings.engine} uses no model", fix="leave out --model and --adapter-path")
    if kind in REMOTE_KINDS:
        http_proposer.parse_address(settings.engine)
    elif settings.engine_bearer_file:
        raise UsageError(
            f"--engine {settings.engine} wants no token", fix="leave out --engine-bearer-file; it is of another bridge"
        )


def load_proposer(settings: ProposerSettings, wanted: frozenset[str] | None = None) -> ProposalEngine:
    """The engine that the settings name, as `engines_of` has it."""
    return load_proposers(settings, wanted)[0]


def load_proposers(
    settings: ProposerSettings, wanted: frozenset[str] | None = None
) -> tuple[ProposalEngine, ProposalEngine | None]:
    """The engine that the settings name, and the base alone beside an adapter.

    A model is loaded for it, another bridge asked what it is.
    wanted: ids that a file of proposals must have, or None where they are not known yet.
    Raises ModelError, CorpusError where a model or a file of proposals cannot be used, ClusterError where another
    bridge cannot be reached.
    """
    kind, _, path = settings.engine.partition(":")
    if kind == "identity":
        return IdentityEngine(), None
    if kind == "file":
        return FileEngine(Path(path).expanduser(), wanted), None
    if kind in REMOTE_KINDS:
        bearer = (
            keys.read_bearer_token(Path(settings.engine_bearer_file).expanduser())
            if settings.engine_bearer_file
            else None
        )
        return http_proposer.HttpProposer(
            http_proposer.parse_address(settings.engine), bearer, chunk=settings.batch_size
        ), None
    from thunder.evaluation import engine_setup  # the way to MLX, which the other engines do without

    how = {"batch_size": settings.batch_size, "chunk_words": settings.chunk_words, "margins": True}
    engine, base = engine_setup.load_model_engines(settings.model, settings.adapter_path, **how)
    engine.warm([cases.case_from_text("", text, {}) for text in UNLIKE_TEXTS])
    return engine, base


def propose_and_decide(
    asked: Sequence[Case],
    engine: ProposalEngine,
    book: Rulebook,
    ring: KeyRing,
    log: ProvenanceLog,
    *,
    texts: bool = True,
    on_row: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[SignedDecision], str | None]:
    """Decisions on rows that belong together, all in the log; and why nothing counts, where the batch is broken."""
    done = 0

    def finished(count: int) -> None:
        nonlocal done
        done += count
        on_row(done, len(asked))

    proposals = list(engine.propose(asked, finished))
    decisions, why = ProposalDecider(engine, book, ring, texts).decide_batch(asked, proposals)
    for part in _parts(decisions):
        log.append([decision.record for decision in part])
    return decisions, why


def _parts(decisions: Sequence[SignedDecision]) -> Iterator[Sequence[SignedDecision]]:
    return (decisions[start : start + RECORDS_PER_WRITE] for start in range(0, len(decisions), RECORDS_PER_WRITE))


def decision_line(decision: SignedDecision) -> dict[str, Any]:
    """A decision as a line of JSON, that thunder eval reads too with --engine file:PATH."""
    verdict = decision.verdict
    return {
        "id": decision.case.row_id,
        "asr_text": decision.case.input,
        "proposal": decision.proposal.text,
        "final_text": verdict.text,
        "decision": verdict.decision,
        "accepted": verdict.decision == "accept",
        "partition": verdict.partition,
        "partition_source": verdict.partition_source,
        "reasons": [reason._asdict() for reason in verdict.reasons],
        "edits": verdict.edits,
        "confidence": decision.proposal.confidence,
        "margin": decision.proposal.margin,
        "token": decision.token,
        "provenance_id": decision.record["rid"],
    }

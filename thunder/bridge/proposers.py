"""Choose and load the engine that proposes, and decide on a whole file of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

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

RECORDS_PER_WRITE = 512
REMOTE_KINDS = ("http", "https")
KINDS_WITH_LOCATION = ("file", *REMOTE_KINDS)  # engines that are named with a path or an address
UNLIKE_TEXTS = ("ߊ", "5", "a b")  # prompts for all texts share at least what the prompts for these texts share


def load_rulebook(settings: ProposerSettings) -> Rulebook:
    """The gate's rules that the settings name. Raises ConfigError."""
    path = Path(settings.gate_rules).expanduser() if settings.gate_rules else gate_rules.DEFAULT_RULES
    return gate_rules.read_gate_rules(path)


def check_engine_options(settings: ProposerSettings, more: Sequence[str] = ()) -> None:
    """Check that the engine exists and that its options fit together, before anything is loaded. Raises UsageError.

    more: further engines of this command.
    """
    kind, colon, location = settings.engine.partition(":")
    plain = ("mlx", "identity", *more)
    if not (kind in KINDS_WITH_LOCATION and location) and (kind not in plain or colon):
        known = ", ".join([*plain, "file:PATH", "http://HOST:PORT"])
        raise UsageError(f"--engine {settings.engine}: no such engine here", fix=f"one of: {known}")
    if kind != "mlx" and (settings.model or settings.adapter_path):
        raise UsageError(f"--engine {settings.engine} uses no model", fix="leave out --model and --adapter-path")
    if kind in REMOTE_KINDS:
        from thunder.bridge.http_proposer import parse_address  # httpx, which the other engines do without

        parse_address(settings.engine)
    elif settings.engine_bearer_file:
        raise UsageError(
            f"--engine {settings.engine} takes no token", fix="leave out --engine-bearer-file; it is for another bridge"
        )


def load_proposer(settings: ProposerSettings, row_ids: frozenset[str] | None = None) -> ProposalEngine:
    """The engine that the settings name; see load_proposers."""
    return load_proposers(settings, row_ids)[0]


def load_proposers(
    settings: ProposerSettings, row_ids: frozenset[str] | None = None
) -> tuple[ProposalEngine, ProposalEngine | None]:
    """The engine that the settings name, and the base alone where there is an adapter.

    A model is loaded; another bridge is asked for its model. row_ids: ids that a file of proposals must have, or None
    where they are not known yet.

    Raises ModelError or CorpusError where a model or a file of proposals cannot be used, ClusterError where another
    bridge cannot be reached.
    """
    kind, _, location = settings.engine.partition(":")
    if kind == "identity":
        return IdentityEngine(), None
    if kind == "file":
        return FileEngine(Path(location).expanduser(), row_ids), None
    if kind in REMOTE_KINDS:
        return _load_http_proposer(settings), None
    from thunder.evaluation import engine_setup  # MLX, which the other engines do without

    options: dict[str, Any] = {"batch_size": settings.batch_size, "chunk_words": settings.chunk_words, "margins": True}
    engine, base = engine_setup.load_model_engines(settings.model, settings.adapter_path, **options)
    engine.cache_shared_prefix([cases.case_from_text("", text, {}) for text in UNLIKE_TEXTS])
    return engine, base


def _load_http_proposer(settings: ProposerSettings) -> ProposalEngine:
    from thunder.bridge.http_proposer import HttpProposer, parse_address  # httpx

    file = settings.engine_bearer_file
    bearer = keys.read_bearer_token(Path(file).expanduser()) if file else None
    return HttpProposer(parse_address(settings.engine), bearer, chunk=settings.batch_size)


def propose_and_decide(
    rows: Sequence[Case],
    engine: ProposalEngine,
    book: Rulebook,
    ring: KeyRing,
    log: ProvenanceLog,
    *,
    texts: bool = True,
    on_row: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[SignedDecision], str | None]:
    """Decisions on rows that form one batch, all in the log; and the breaker's reason where the batch is stopped.

    texts: whether the log keeps the texts. on_row: called with (rows done, rows).
    """
    done = 0

    def finished(count: int) -> None:
        nonlocal done
        done += count
        on_row(done, len(rows))

    proposals = list(engine.propose(rows, finished))
    decisions, reason = ProposalDecider(engine, book, ring, texts).decide_batch(rows, proposals)
    for part in _parts(decisions):
        log.append([decision.record for decision in part])
    return decisions, reason


def _parts(decisions: Sequence[SignedDecision]) -> Iterator[Sequence[SignedDecision]]:
    starts = range(0, len(decisions), RECORDS_PER_WRITE)
    return (decisions[start : start + RECORDS_PER_WRITE] for start in starts)


def decision_line(decision: SignedDecision) -> dict[str, Any]:
    """A decision as a line of JSON; `thunder eval --engine file:PATH` reads these lines too."""
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

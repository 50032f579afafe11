"""Who proposes on the bridge, and a whole file of rows over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from thunder.bridge import rules
from thunder.bridge.decisions import Decider, Decision
from thunder.bridge.keys import KeyRing
from thunder.bridge.provenance import Log
from thunder.bridge.rules import Rulebook
from thunder.bridge.settings import BridgeSettings
from thunder.errors import UsageError
from thunder.evaluation.cases import Case
from thunder.evaluation.engines import Engine, FromFile, Identity
from thunder.text.chat import correction_prompt

AT_ONCE = 512  # records that are written to the log together
UNLIKE = ("ߊ", "5", "a b")  # what prompts for such texts have in common, all have


def rulebook(settings: BridgeSettings) -> Rulebook:
    """The rules that the settings name. Raises ConfigError."""
    return rules.read(Path(settings.rules).expanduser()) if settings.rules else rules.read()


def check(settings: BridgeSettings) -> None:
    """See that the engine is one and its options fit, before anything is loaded. Raises UsageError."""
    kind, colon, path = settings.engine.partition(":")
    if kind not in ("mlx", "identity", "file") or (kind == "file") != bool(path) or (colon and kind != "file"):
        raise UsageError(f"--engine {settings.engine}: there is no such engine", fix="mlx, identity, file:PATH")
    if kind != "mlx" and (settings.model or settings.adapter_path):
        raise UsageError(f"--engine {settings.engine} uses no model", fix="leave out --model and --adapter-path")


def engine_of(settings: BridgeSettings, wanted: frozenset[str] | None = None) -> Engine:
    """The engine that the settings name; a model is loaded for it.

    wanted: ids that a file of proposals must have, or None where they are not known yet.
    Raises ModelError, CorpusError where a model or a file of proposals cannot be used, UsageError as `check` does.
    """
    check(settings)
    kind, _, path = settings.engine.partition(":")
    if kind == "identity":
        return Identity()
    if kind == "file":
        return FromFile(Path(path).expanduser(), wanted)
    from thunder.evaluation import setup  # the way to MLX, which the other engines do without

    how = {"batch_size": settings.batch_size, "window": settings.window, "margins": True}
    engine = setup.of_model(settings.model, settings.adapter_path, **how)[0]
    engine.warm([case_of("", text, {}) for text in UNLIKE])
    return engine


def case_of(row_id: str, asr_text: str, fields: dict[str, Any]) -> Case:
    """A row without a reference, under the one prompt that corrections are asked for with."""
    messages = ({"role": "user", "content": correction_prompt(asr_text)},)
    return Case(0, row_id, asr_text, "", messages, fields=fields)


def over_the_bridge(
    cases: Sequence[Case],
    engine: Engine,
    book: Rulebook,
    ring: KeyRing,
    log: Log,
    *,
    texts: bool = True,
    on_row: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Decision], str | None]:
    """Decisions on rows that belong together, all in the log; and why nothing counts, where the batch is broken."""
    done = 0

    def finished(count: int) -> None:
        nonlocal done
        done += count
        on_row(done, len(cases))

    proposals = list(engine.propose(cases, finished))
    decisions, why = Decider(engine, book, ring, texts).decide_batch(cases, proposals)
    for part in _parts(decisions):
        log.append([decision.record for decision in part])
    return decisions, why


def _parts(decisions: Sequence[Decision]) -> Iterator[Sequence[Decision]]:
    return (decisions[start : start + AT_ONCE] for start in range(0, len(decisions), AT_ONCE))


def as_line(decision: Decision) -> dict[str, Any]:
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

"""Run an evaluation: make proposals and store them, judge them, sum up and write the results."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from thunder import digest
from thunder.errors import ArtifactError
from thunder.evaluation.cases import Case, EvaluationSet
from thunder.evaluation.engines import OracleEngine, Proposal, ProposalEngine
from thunder.evaluation.metrics import summary
from thunder.evaluation.metrics.judge import judge_proposal
from thunder.evaluation.metrics.summary import BootstrapSettings
from thunder.evaluation.proposal_ledger import ProposalLedger
from thunder.text.comparable import unusual_characters

TEXTS = ("input", "proposal", "reference")  # of a judged row
ORACLE_EVIDENCE = "oracle"  # an evidence class
PREDICTIONS, RESULTS, REPORT = "predictions.jsonl", "results.json", "report.html"
OnRow = Callable[[int, int], None]
# judged rows, results -> the report as HTML
RenderPage = Callable[[list[dict[str, Any]], dict[str, Any]], str]
# case, proposal of the engine, proposal of the base -> judged row
JudgeRow = Callable[[Case, Proposal, Proposal | None], dict[str, Any]]


class EvaluationRequest(Protocol):
    """The settings that an evaluation needs."""

    @property
    def limit(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def resamples(self) -> int: ...
    def resolved(self) -> dict[str, Any]: ...


def run_evaluation(
    cases: EvaluationSet,
    settings: EvaluationRequest,
    engine: ProposalEngine,
    base: ProposalEngine | None,
    folder: Path,
    on_row: OnRow = lambda done, total: None,
    page: RenderPage | None = None,
    judge: JudgeRow = judge_proposal,
    more: Callable[[Sequence[dict[str, Any]]], dict[str, Any]] = lambda rows: {},
) -> dict[str, Any]:
    """Evaluate, or continue an interrupted evaluation; returns the content of results.json.

    on_row: called with (answers done, answers); a row has two answers where the base answers too. page: renders
    report.html, where one is wanted. judge: makes a row of predictions.jsonl. more: further content of results.json,
    from all rows. Writes predictions.jsonl, the report and, last, results.json with the digest of the predictions.

    Raises UsageError where the folder holds an unfinished evaluation of other inputs or settings.
    """
    started = time.perf_counter()
    ledger = ProposalLedger(folder, settings.resolved(), evaluation_fingerprint(cases, settings, engine, base))
    try:
        resumed_after = len(ledger.pairs)
        _propose(cases, engine, base, ledger, on_row)
        pairs = ledger.pairs
    finally:
        ledger.close()
    if len(pairs) > len(cases.cases):
        raise ArtifactError(f"{ledger.path}: more proposals than rows", fix=f"delete it: rm {ledger.path}")
    # the oracle uses the references, so its results are of their own evidence class
    override = {"evidence_class": ORACLE_EVIDENCE} if isinstance(engine, OracleEngine) else {}
    rows = [judge(replace(case, **override), *pair) for case, pair in zip(cases.cases, pairs, strict=True)]
    seconds = time.perf_counter() - started
    results = summary.summarize_rows(rows, BootstrapSettings(settings.seed, settings.resamples)) | {
        **more(rows),
        "ground": evaluation_fingerprint(cases, settings, engine, base),
        "settings": settings.resolved(),
        "strange_partitions": cases.unknown_partitions,
        "characters": {name: found for name in TEXTS if (found := unusual_characters(str(row[name]) for row in rows))},
        "not_corrections": sum(not case.is_correction for case in cases.cases),
        "windowed": sum(mine.windows > 1 for mine, _ in pairs),
        "resumed_after": resumed_after,
        "seconds": round(seconds, 3),
        "rows_per_second": round((len(rows) - resumed_after) / seconds, 3),
    }
    _write(folder, rows, results, page)
    ledger.remove()
    return results


def evaluation_fingerprint(
    cases: EvaluationSet, settings: EvaluationRequest, engine: ProposalEngine, base: ProposalEngine | None
) -> dict[str, Any]:
    """Name -> value of everything that decides the proposals; `ground` in the results."""
    return {
        "rows_sha256": cases.sha256,
        "limit": settings.limit,
        "compare": "base" if base else "none",
        **engine.describe(),
    }


def _propose(
    cases: EvaluationSet, engine: ProposalEngine, base: ProposalEngine | None, ledger: ProposalLedger, on_row: OnRow
) -> None:
    """Make the proposals that the ledger lacks, a chunk of rows at a time."""
    engines = [engine, *([base] if base else [])]
    total, done = len(cases.cases) * len(engines), len(ledger.pairs) * len(engines)

    def finished(count: int) -> None:
        nonlocal done
        done += count
        on_row(done, total)

    finished(0)
    while len(ledger.pairs) < len(cases.cases):
        chunk = cases.cases[len(ledger.pairs) : len(ledger.pairs) + engine.chunk]
        proposals = list(engine.propose(chunk, finished))
        from_base = list(base.propose(chunk, finished)) if base else [None] * len(chunk)
        ledger.append(list(zip(proposals, from_base, strict=True)))
        done = len(ledger.pairs) * len(engines)
        on_row(done, total)


def _write(folder: Path, rows: list[dict[str, Any]], results: dict[str, Any], page: RenderPage | None) -> None:
    """Write the finished files; results.json comes last. The report derives from the other files."""
    digest.write_atomically(folder / PREDICTIONS, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    if page:
        digest.write_atomically(folder / REPORT, page(rows, results))
    results["files"] = {PREDICTIONS: digest.sha256_file(folder / PREDICTIONS)}
    digest.write_json(folder / RESULTS, results)

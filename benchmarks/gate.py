"""Count the proposals of a model that the gate accepts, by least margin and confidence, to choose a rules file.

python benchmarks/gate.py ROWS [--model FOLDER] [--adapter-path FOLDER] [--chunk-words 6] [--max-cer 0.3] [--rows 80]

Rows are before/after, hyp/ref or correction rows, of which every n-th with a CER up to --max-cer is taken. The gate
decides on each with the budgets of `boundary`, then of `uncertain`, whatever its own partition. Choose on
development rows only.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thunder.bridge.decisions import gate_evidence
from thunder.bridge.gate import gate, gate_rules
from thunder.bridge.gate.gate_rules import Rulebook
from thunder.evaluation import cases, engine_setup
from thunder.evaluation.cases import Case
from thunder.evaluation.engines import Proposal
from thunder.evaluation.metrics.judge import judge_proposal
from thunder.evaluation.metrics.summary import summarize_rows
from thunder.text import distance


def chosen(path: Path, max_cer: float, count: int, longest: int) -> list[Case]:
    """`count` rows of a file, evenly spread over it."""
    fit = [
        case
        for case in cases.read_cases(path).cases
        if len(case.input) <= longest and (distance.count_errors(case.input, case.reference).rate or 0) <= max_cer
    ]
    return fit[:: max(1, len(fit) // count)][:count]


def gated(asked: Sequence[Case], proposals: Sequence[Proposal], partition: str, book: Rulebook) -> dict[str, Any]:
    """The summary of the proposals that the gate accepts."""
    rows = []
    for case, proposal in zip(asked, proposals, strict=True):
        verdict = gate.decide_proposal(dataclasses.replace(gate_evidence(case, proposal), partition=partition), book)
        rows.append(judge_proposal(case, dataclasses.replace(proposal, accepted=verdict.decision == "accept")))
    return summarize_rows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--adapter-path")
    parser.add_argument("--chunk-words", type=int, default=0)
    parser.add_argument("--max-cer", type=float, default=0.3)
    parser.add_argument("--longest", type=int, default=200)
    parser.add_argument("--rows", type=int, default=80)
    given = parser.parse_args()
    asked = chosen(given.source, given.max_cer, given.rows, given.longest)
    engine, _ = engine_setup.load_model_engines(
        given.model, given.adapter_path, batch_size=32, chunk_words=given.chunk_words, margins=True
    )
    proposals, book = list(engine.propose(asked)), gate_rules.read_gate_rules()
    blind = summarize_rows([judge_proposal(case, proposal) for case, proposal in zip(asked, proposals, strict=True)])
    print(f"{len(asked)} rows, CER {blind['cer_before']:.4f}; all accepted: {blind['cer_after']:.4f}, "
          f"{blind['improved']} improved, {blind['worse']} worse")  # fmt: skip
    print("partition   min_confidence min_margin accepted improved worse  CER     at most worse (95 % confidence)")
    for partition in ("boundary", "uncertain"):
        budget = book.budgets[partition]
        for limits in [
            (budget.min_confidence, budget.min_margin),
            *((0.8, margin) for margin in (0.0, 0.05, 0.1, 0.2)),
        ]:
            changes = dict(zip(("min_confidence", "min_margin"), limits, strict=True))
            budgets = {**book.budgets, partition: budget.model_copy(update=changes)}
            found = gated(asked, proposals, partition, Rulebook(book.rules, budgets, ""))
            bound = f"{found['worse_upper95']:.1%}"
            print(f"{partition:11} {limits[0]:<14} {limits[1]:<10} {found['accepted']:<8} {found['improved']:<8} "
                  f"{found['worse']:<6} {found['cer_after']:.4f}  {bound}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

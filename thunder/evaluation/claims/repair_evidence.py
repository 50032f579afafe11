"""Judge the evidence that repair helps, recounted from the texts of an evaluation's rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from thunder.evaluation.metrics import summary
from thunder.text import distance
from thunder.text.comparable import comparable_text
from thunder.text.distance import ErrorCounts
from thunder.text.row_fields import EVERY_PARTITION

PREDICTIONS = "predictions.jsonl"
REAL_EVIDENCE = "real_same_provenance"
ACCEPTED, MOST_HARM = 299, 0.01  # 299 accepted and none worse are the fewest rows that bound harm below 1 %
CRITERIA = ("evidence_class", "cer_change", "harm", "partitions", "base")
CriterionResult = tuple[str, bool, str]


def judge_repair(folder: Path | None) -> tuple[list[CriterionResult], dict[str, Any]]:
    """(name, whether it holds, what was found) of each criterion, and the figures. folder: of the evaluation."""
    if folder is None or not (folder / PREDICTIONS).is_file():
        where = "none is named" if folder is None else f"{folder}: no {PREDICTIONS}"
        return [(name, False, f"no evaluation: {where}") for name in CRITERIA], {}
    rows, faults = recount_rows(folder / PREDICTIONS)
    if faults or not rows:
        text = "; ".join(faults[:3]) or "it has no rows"
        return [(name, False, f"{folder.name}: {text}") for name in CRITERIA], {}
    results = summary.summarize_rows(rows)
    figures = ("rows", "accepted", "worse", "worse_upper95", "cer_before", "cer_after", "cer_change_interval95")
    return [*_judge_summary(results)], {name: results[name] for name in figures}


def recount_rows(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The judged rows of a file with their edits counted again from the texts, and the faults."""
    rows, faults = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            row = json.loads(line)
            texts = {"before": row["input"], "proposal": row["proposal"]}
            texts |= {"base": row["proposal_base"]} if "proposal_base" in row else {}
            texts["after"] = row["proposal"] if row["accepted"] else row["input"]
            form = str(row.get("normalize", "none"))
            reference = comparable_text(row["reference"], form)
            texts = {name: comparable_text(text, form) for name, text in texts.items()}
            edits = {f"edits_{name}": _count_units(text, reference, "edits") for name, text in texts.items()}
            edits["reference_units"] = _count_units(texts["before"], reference, "reference_chars")
            faults += [
                f"line {number}: '{key}' does not match its texts" for key in edits if row.get(key) != edits[key]
            ]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            faults.append(f"line {number}: not a row of an evaluation")
            continue
        rows.append(row)
    return rows, faults


def _count_units(text: str, reference: str, what: str) -> dict[str, int]:
    counts = distance.count_all_errors(text, reference)
    return {unit.name: getattr(getattr(counts, unit.name), what) for unit in fields(ErrorCounts)}


def _judge_summary(found: dict[str, Any]) -> Iterator[CriterionResult]:
    classes, accepted, bound = found["evidence_class"], found["accepted"], found["worse_upper95"]
    text = f"evidence_class={', '.join(classes) or 'unknown'}, accepted {accepted}"
    yield "evidence_class", set(classes) == {REAL_EVIDENCE}, text + (f" < {ACCEPTED}" if accepted < ACCEPTED else "")
    interval = found["cer_change_interval95"]
    text = "unknown" if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"
    yield "cer_change", interval is not None and interval[1] < 0, f"change of CER, 95 %: {text}"
    harm = f"{found['worse']} of {accepted} accepted are worse, at most {bound:.2%}"
    yield "harm", accepted >= ACCEPTED and bound <= MOST_HARM, f"{harm} (95 % confidence; the limit is {MOST_HARM:.0%})"
    worse = [name for name in EVERY_PARTITION if _is_worse(found["by"]["partition"].get(name))]
    yield "partitions", not worse, f"worse: {', '.join(worse)}" if worse else "no partition is worse"
    over = found.get("adapter_over_base")
    if over is None:
        yield "base", False, "the base alone was not evaluated (thunder eval --compare base)"
    else:
        change = over["cer_change"]
        yield (
            "base",
            change is not None and change < 0,
            f"CER over the base's: {change:+.4f}" if change else "no better",
        )


def _is_worse(block: dict[str, Any] | None) -> bool:
    return block is not None and block["edits_after"] > block["edits_before"]

"""Write the test results of a run: predictions, references (in corpus format) and error rates by partition."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thunder import digest
from thunder.acoustic.dataset.utterances import AcousticExample
from thunder.acoustic.trajectory import partitions, scalars
from thunder.corpora.rows.correction_rows import SCHEMA
from thunder.text import row_fields
from thunder.text.distance import ErrorCount

PREDICTIONS, REFERENCES = "test_predictions.jsonl", "test_references.jsonl"
BY_PARTITION = "test_metrics_by_partition.json"
SPLIT, VOCABULARY, BEST, RUN_LOG = "split.json", "vocab.json", "best.safetensors", "run.log"


def correction_row(
    example: AcousticExample, recognized: Mapping[str, Any], *, part: str, script: str, mode: str, run_id: str
) -> dict[str, Any]:
    """A row in the format of `thunder.corpora.rows.correction_rows`, with the utterance's other metadata."""
    row = {
        "schema": SCHEMA,
        "feat_id": example.id,
        "audio_id": example.audio_id,
        "split": part,
        "script": script,
        "mode": mode,
        **{name: value for name, value in recognized.items() if name != "character_partitions"},
        "trajectory_schema": scalars.SCHEMA,
        "run_id": run_id,
    }
    return row | ({"evidence_class": "synthetic"} if example.synthetic else {})


def reference_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The line of test_references.jsonl for a prediction."""
    names = ("feat_id", "audio_id", "split", "script", "reference_text", "reference_chars")
    return {name: row[name] for name in names}


def write_results(folder: Path, rows: Sequence[Mapping[str, Any]], alignment: str = "own") -> None:
    """Write predictions, references (in the same order) and error rates by partition.

    alignment: name of the run whose best path assigns frames to characters.
    """
    for name, lines in ((PREDICTIONS, rows), (REFERENCES, map(reference_row, rows))):
        text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
        digest.write_atomically(folder / name, text)
    digest.write_json(folder / BY_PARTITION, partition_metrics(rows, alignment))


def partition_metrics(rows: Sequence[Mapping[str, Any]], alignment: str = "own") -> dict[str, Any]:
    """Micro CER by partition and by length of utterances, and by partition of characters; each adds up to `total`."""
    groups = {name: [row for row in rows if row["partition"] == name] for name in partitions.FRAME_PARTITIONS}
    lengths: dict[str, list[Mapping[str, Any]]] = {name: [] for name in row_fields.LENGTH_BINS}
    for row in rows:
        lengths[row_fields.length_bin(row["reference_chars"])].append(row)
    return {
        "schema": "thunder.partitions/1",
        "partition_of": "utterance: means over its frames, limits from the training utterances "
        "(docs/explanation/modes.md)",
        "partitions": {name: _error_counts(group) for name, group in groups.items()},
        "characters": _character_metrics(rows),
        "lengths": {name: _error_counts(group) for name, group in lengths.items() if group},
        "alignment": alignment,
        "total": _error_counts(rows),
    }


def _character_metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    sums: dict[str, ErrorCount] = {}
    for row in rows:
        for name, (edits, chars) in row["edits_by_partition"].items():
            sums[name] = sums.get(name, ErrorCount()) + ErrorCount(edits, chars)
    return {
        name: {"cer_edits": count.edits, "reference_chars": count.reference_chars, "cer": count.rate}
        for name, count in sorted(sums.items())
    }


def _error_counts(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    rows = list(rows)
    count = sum((ErrorCount(row["cer_edits"], row["reference_chars"]) for row in rows), ErrorCount())
    return {"rows": len(rows), "cer_edits": count.edits, "reference_chars": count.reference_chars, "cer": count.rate}


def summarize_results(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Values of results.json under `test`: micro CER and WER, exact and empty rows, drift of the fast weights."""
    chars = sum((ErrorCount(row["cer_edits"], row["reference_chars"]) for row in rows), ErrorCount())
    words = sum((ErrorCount(row["wer_edits"], row["reference_words"]) for row in rows), ErrorCount())
    summary: dict[str, Any] = {
        "rows": len(rows),
        "cer_edits": chars.edits,
        "reference_chars": chars.reference_chars,
        "cer": chars.rate,
        "wer": words.rate,
        "exact": sum(row["cer_edits"] == 0 for row in rows),
        "empty": sum(not row["asr_text"] for row in rows),
    }
    if confidences := [row["confidence"] for row in rows if "confidence" in row]:
        summary["confidence_mean"] = float(np.mean(confidences))
    if drifts := [row["ttt_drift"] for row in rows if "ttt_drift" in row]:
        summary["ttt"] = {
            "drift_mean": float(np.mean(drifts)),
            "drift_largest": float(np.max(drifts)),
            "capped_share": float(np.mean([row["ttt_capped"] for row in rows])),
        }
    return summary


def format_run_log(metrics: Iterable[Mapping[str, Any]], head: Mapping[str, Any]) -> str:
    """run.log: a description of the run, then a line for each report and validation."""
    lines = [f"{name}: {value}" for name, value in head.items()]
    for row in metrics:
        values = {name: value for name, value in row.items() if name not in ("time", "step")}
        shown = "  ".join(f"{name} {value:.6g}" for name, value in values.items() if isinstance(value, int | float))
        lines.append(f"step {row['step']}  {shown}")
    return "\n".join(lines) + "\n"

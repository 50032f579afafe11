"""Edits of the files in a planted run, and the faults that a check of its bundle then finds."""

from __future__ import annotations

import json
from pathlib import Path

from planted_runs import read_jsonl, write_json, write_jsonl

from thunder.runs.bundles import bundle

PREDICTIONS, REFERENCES, RESULTS = "test_predictions.jsonl", "test_references.jsonl", "results.json"
PARTS = "test_metrics_by_partition.json"


def edit(path: Path, change) -> None:
    """Read, change in place, write again: JSON or JSON lines."""
    lines = path.suffix == ".jsonl"
    content = read_jsonl(path) if lines else json.loads(path.read_text())
    change(content)
    (write_jsonl if lines else write_json)(path, content)


def only_fault(folder: Path) -> str:
    (fault,) = bundle.bundle_faults(folder)
    return fault


def one_more_edit(rows):
    rows[3]["cer_edits"] += 1

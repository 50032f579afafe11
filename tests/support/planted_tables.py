"""Sealed runs, a spec of one table over them, and a text with places for its numbers."""

from __future__ import annotations

import json

import planted_runs
import pytest
from planted_runs import read_jsonl

from thunder.errors import GateError
from thunder.runs.bundles import bundle
from thunder.runs.records import run_record
from thunder.runs.tables import table_files

SPEC = """schema: thunder.tables/1
out: out
runs:
  base: [base-1, base-2, base-3]
  traj: [traj-1, traj-2]
  fast: [fast-1]
tables:
  - name: paper
    title: What the modes are worth
    baseline: base
    allow: [mode]
    rows: [base, traj, fast]
    columns: [cer, cer@novelty, wer, rows, runs]
prose:
  - {source: paper.md.in, target: paper.md}
"""
PROSE = "The baseline reaches {{cer:base}} %.\n\nOn novelty it is {{ cer@novelty : base }} % of {{rows:fast}} rows.\n"


def sealed_runs_and_spec(tmp_path):
    """Six sealed runs of three kinds, a spec of one table, and a text; `fast` has another learning rate."""
    for name, options in (("base", {}), ("traj", {"mode": "trajectory"}), ("fast", {"learning_rate": 1e-3})):
        for seed in range(1, {"base": 4, "traj": 3, "fast": 2}[name]):
            harm = {"base": 0.4, "traj": 0.2, "fast": 0.1}[name]
            run = planted_runs.recognizer_run(tmp_path, f"{name}-{seed}", seed=seed, harm=harm, rows=20, **options)
            bundle.seal_bundle(run)
    (tmp_path / "tables.yaml").write_text(SPEC, encoding="utf-8")
    (tmp_path / "paper.md.in").write_text(PROSE, encoding="utf-8")
    return tmp_path


def find(root):
    return lambda name: run_record.find_run(root, name)


def build(root):
    return table_files.build_table_files(root / "tables.yaml", find(root))


def faults(root):
    with pytest.raises(GateError) as error:
        table_files.check_table_files(root / "tables.yaml", find(root))
    return error.value.message


def cer_of(root, run, partition=None):
    """Recomputed here, from the rows' texts."""
    rows = [row for row in read_jsonl(root / run / "test_predictions.jsonl") if partition in (None, row["partition"])]
    edits = sum(planted_runs.levenshtein(row["asr_text"], row["reference_text"]) for row in rows)
    return edits / sum(len(row["reference_text"]) for row in rows)


def cells(root):
    return json.loads((root / "out" / "tables.lock.json").read_text())["cells"]

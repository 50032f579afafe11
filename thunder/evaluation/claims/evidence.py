"""Collect the evidence of a run in one JSON object, recomputed from its files; each null has a reason."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from thunder.errors import ThunderError
from thunder.evaluation.claims import memorization, training_table
from thunder.evaluation.claims.training_table import TrainingTable
from thunder.runs.bundles import bundle
from thunder.runs.bundles.bundle_checks import json_object
from thunder.runs.compare import run_facts
from thunder.runs.records.registry import PLAN
from thunder.runs.records.run_record import ENVIRONMENT, RESULTS

EVIDENCE_FILE = "evidence.json"
EVIDENCE_SCHEMA = "thunder.evidence/1"
MEMORIZATION_RULES = "thunder.memcheck/1"  # version of the verdict's rules; changes with each sign or bound


def collect_run_evidence(folder: Path) -> dict[str, Any]:
    """The evidence of a run's folder. `nulls` gives the reason of each missing value.

    Raises UsageError where the folder is not a run of a known kind, ConfigError where its options cannot be read.
    """
    plan, environment = _read_object(folder / PLAN), _read_object(folder / ENVIRONMENT)
    results, known = _read_object(folder / RESULTS), run_facts.read_run_facts(folder)
    table, why = _training_table(folder)
    judged = memorization.judge_training(table) if table else None
    evidence: dict[str, Any] = {
        "schema": EVIDENCE_SCHEMA,
        "run_id": folder.name,
        "kind": bundle.run_kind(folder).name,
        "sealed": bundle.manifest_digest(folder),
        "commits": {
            "train": environment.get("commit"),
            "dirty": environment.get("dirty"),
            "diff": environment.get("diff_sha256"),
        },
        "environment": {key: environment.get(key) for key in ("versions", "system", "machine", "chip", "cores")},
        "corpus": _corpus(plan, environment, judged),
        "hypothesis": plan.get("hypothesis"),
        "hyperparameters": dict(known.options) or None,
        "forced": list(known.forced),
        "epochs": [asdict(row) for row in table.rows] if table else None,
        "summary": _summary(table, judged, results),
        "verdict": {"word": judged.verdict, "rule": MEMORIZATION_RULES, "signs": sorted(judged.names)}
        if judged
        else None,
        "test": results.get("test"),
    }
    artifacts = bundle.describe_files(folder)["files"]
    evidence["artifacts"] = [{"path": name, **each} for name, each in artifacts.items() if name != EVIDENCE_FILE]
    return evidence | {"nulls": dict(_nulls(evidence, why))}


def _read_object(path: Path) -> dict[str, Any]:
    return json_object(path, []) if path.is_file() else {}


def _training_table(folder: Path) -> tuple[TrainingTable | None, str]:
    """The table of the run's epochs, or the reason why there is none."""
    try:
        table = training_table.read_training_table(folder)
    except ThunderError as error:
        return None, error.message
    return (table, "") if table.rows else (None, "nothing was validated")


def _corpus(
    plan: dict[str, Any], environment: dict[str, Any], judged: memorization.MemorizationVerdict | None
) -> dict[str, Any]:
    data = plan.get("data")
    train = data.get("train") if isinstance(data, dict) else None
    train = train if isinstance(train, dict) else {}
    return {
        "rows": train.get("rows"),
        "tokens": train.get("tokens"),
        "sha256": environment.get("data_sha256"),
        "wraps": judged.passes if judged else None,
    }


def _summary(
    table: TrainingTable | None, judged: memorization.MemorizationVerdict | None, results: dict[str, Any]
) -> dict[str, Any]:
    """Summarize the epochs; only the number of steps comes from a summary that the run wrote."""
    rows = [row for row in table.rows if row.val is not None] if table else []
    best = min(rows, key=lambda row: row.val or 0.0, default=None)
    return {
        "steps": results.get("steps"),
        "best_epoch": judged.best if judged else None,
        "best_step": best.step if best else None,
        "best_val": best.val if best else None,
        "last_val": rows[-1].val if rows else None,
        "last_running": rows[-1].running if rows else None,
        "wrap_boundaries": list(judged.wraps) if judged else None,
    }


_OPEN_OBJECTS = ("hyperparameters", "test")  # their nulls are the run's own values
_TABLE_FIELDS = ("corpus.wraps", "summary.best_epoch", "summary.best_step", "summary.best_val", "summary.last_val",
             "summary.last_running", "summary.wrap_boundaries")  # fmt: skip
_REASONS = {
    "sealed": "it is not sealed: thunder bundle seal",
    "commits": "it was not made in a git checkout, or by a version that did not record it",
    "environment": f"{ENVIRONMENT} does not say it",
    "corpus": f"neither {PLAN} nor {ENVIRONMENT} says it",
    "hypothesis": "it was started under none: --hypothesis FILE",
    "hyperparameters": "it has no config.yaml",
    "test": f"{RESULTS} has no test",
    "summary": f"it is in neither its logs nor {RESULTS}",
}


def _nulls(found: dict[str, Any], why: str) -> dict[str, str]:
    """The path of each null -> its reason; options that are not set do not count."""
    nulls = {}
    for name, value in found.items():
        inside = isinstance(value, dict) and name not in _OPEN_OBJECTS
        places = [f"{name}.{key}" for key, inner in value.items() if inner is None] if inside else []
        for place in [name] if value is None else places:
            of_table = name not in _REASONS or place in _TABLE_FIELDS
            nulls[place] = (why if of_table else "") or _REASONS.get(name, "the logs do not say it")
    if found["commits"]["dirty"] is False:
        nulls["commits.diff"] = "nothing differed from the commit"
    return nulls

"""Record the result of an audit of a run, bound to the run's files by their digests."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from thunder import digest
from thunder.errors import ArtifactError
from thunder.runs.bundles.bundle_checks import BEST, SPLIT
from thunder.runs.bundles.scored_rows import PREDICTIONS
from thunder.runs.records.run_record import CONFIG, RESULTS

AUDIT_FILE = "audit.json"
SCHEMA = "thunder.audit/1"
STAGES = ("eval", "pipeline")
AUDITED_FILES = (CONFIG, SPLIT, BEST, PREDICTIONS, RESULTS)  # files that the audit is bound to by digest
ConditionState = Literal["ok", "violation", "inconclusive"]
AuditVerdict = Literal["pass", "violation", "inconclusive"]


@dataclass(frozen=True)
class Condition:
    """One audited rule, its state and the evidence.

    max_diff: largest difference that was measured, in nats or in the rule's own unit.
    """

    name: str
    state: ConditionState
    said: str
    probes: int = 0
    max_diff: float | None = None
    first_violation: str | None = None


def audit_verdict(conditions: Sequence[Condition]) -> AuditVerdict:
    """Combine conditions: one violation decides, then one inconclusive condition; no conditions is inconclusive."""
    states = {condition.state for condition in conditions}
    if "violation" in states:
        return "violation"
    return "pass" if states == {"ok"} else "inconclusive"


def write_audit(folder: Path, stages: Mapping[str, Sequence[Condition]], scopes: Mapping[str, str]) -> dict[str, Any]:
    """Write audit.json into a run's folder.

    A stage that is not in `stages` keeps its earlier result while that result still matches the run's files.
    """
    recorded_stages: dict[str, Any] = {}
    with contextlib.suppress(ArtifactError):
        recorded_stages = {} if audit_mismatches(folder) else read_audit(folder)["stages"]
    for stage, conditions in stages.items():
        stage_record = {"verdict": audit_verdict(conditions), "scope": scopes[stage]}
        recorded_stages[stage] = stage_record | {"conditions": [asdict(condition) for condition in conditions]}
    content = {"schema": SCHEMA, "run": folder.name, "bound": audited_digests(folder), "stages": recorded_stages}
    digest.write_atomically(folder / AUDIT_FILE, digest.dump_with_checksum(content))
    return content


def audited_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each audited file that the run has."""
    return {name: digest.sha256_file(folder / name) for name in AUDITED_FILES if (folder / name).is_file()}


def read_audit(folder: Path) -> dict[str, Any]:
    """Read a run's audit. Raises ArtifactError where it is missing, torn or changed."""
    path = folder / AUDIT_FILE
    try:
        content = digest.read_with_checksum(path)
        if content.get("schema") != SCHEMA or not isinstance(content.get("stages"), dict):
            raise ValueError(f"not an audit of format {SCHEMA}")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArtifactError(f"{path}: {reason}", fix=f"thunder audit {folder.name}") from None
    return content


def audit_mismatches(folder: Path) -> list[str]:
    """List the audited files that have changed since the audit; empty where it still applies.

    Raises ArtifactError as `read_audit` does.
    """
    recorded, current = read_audit(folder).get("bound"), audited_digests(folder)
    if not isinstance(recorded, dict):
        return ["the audit is bound to no file"]
    return [
        f"{name} differs from the audited file" for name in AUDITED_FILES if recorded.get(name) != current.get(name)
    ]


def audit_refusals(folder: Path) -> list[str]:
    """List the reasons why a run's audit supports no claim.

    Reasons: the audit is missing or damaged, a file has changed since, a stage is missing or did not pass.
    """
    try:
        faults, stages = audit_mismatches(folder), read_audit(folder)["stages"]
    except ArtifactError as error:
        return [f"no audit: {error.message}"]
    for stage in STAGES:
        record = stages.get(stage)
        if not isinstance(record, dict):
            faults.append(f"no audit of stage {stage}")
        elif record.get("verdict") != "pass":
            faults.append(f"audit of stage {stage}: {record.get('verdict')}")
    return faults

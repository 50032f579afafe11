"""Freeze a hypothesis before its run, and evaluate it afterwards: an outcome, or void."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from thunder import digest
from thunder.config import Settings, option
from thunder.errors import ArtifactError, ConfigError, UsageError, combined_error
from thunder.runs.bundles import scored_rows
from thunder.runs.bundles.bundle_checks import json_object
from thunder.runs.compare import drift_report, run_facts
from thunder.runs.compare.run_facts import RunFacts
from thunder.runs.hypotheses import outcomes
from thunder.runs.records import spec_file
from thunder.runs.records.option_names import canonical_name
from thunder.runs.records.registry import PLAN
from thunder.runs.records.run_record import METRICS, RESULTS

SCHEMA = "thunder.hypothesis/1"
FROZEN = ".frozen.jsonl"
LEAST_BUDGET = 0.9  # smallest share of the planned updates; a shorter run tests another treatment
Value = bool | int | float | str | None


class Treatment(Settings):
    """The options that differ between the control run and the treated run."""

    key: str = option(..., "Option that is changed.")
    before: Value = option(..., "Its value in the control run.")
    after: Value = option(..., "Its value in the treated run.")


class Manipulation(Settings):
    """The evidence in the logs that the treatment was applied: a trace, a difference, a number of steps."""

    trace: str = option("learning_rate", "Key of metrics.jsonl; numbers, or texts such as digests.")
    differs_by: float = option(0.05, "Relative difference that numbers must have; texts must be unequal.", ge=0)
    at_least: float = option(0.5, "Share of the common steps at which they must differ.", gt=0, le=1)


class Outcome(Settings):
    """A possible result and its meaning."""

    when: str = option(..., f"Condition on x: {outcomes.EXPECTED}.")
    verdict: str = option(..., "Verdict if the condition holds.", min_length=1)


class Hypothesis(Settings):
    """A hypothesis, complete before the run."""

    id: str = option(..., "Name.", min_length=1)
    schema_: Literal["thunder.hypothesis/1"] = option(SCHEMA, "Format.", alias="schema")
    claim: str = option("", "The claim, in words.")
    treatment: Treatment = option(..., "Option that the treated run changes.")
    manipulation_check: Manipulation = option(Manipulation(), "Check that it was changed.")  # type: ignore[call-arg]
    metric: str = option("best_valid_loss", "Measured value: a key of results.json, with dots: test.cer.")
    measure: Literal["treated", "treated - control"] = option("treated", "Definition of x.")
    budget_steps: int | None = option(None, "Planned updates of the treated run.", ge=1)
    control_run: str | None = option(None, "Folder of the control run, relative to this file's folder.")
    treated_run: str | None = option(None, "Folder of the treated run, relative to this file's folder.")
    outcomes: list[Outcome] = option(..., "Disjoint conditions that cover every x, with verdicts.", min_length=1)


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a hypothesis. void: reasons why there is no verdict; verdict: the outcome's, or 'void: ...'.

    x: the measured value. skipped: checks that could not run.
    """

    id: str
    sha256: str
    verdict: str
    x: float | None
    void: tuple[str, ...]
    skipped: tuple[str, ...]


def read_hypothesis(path: Path) -> Hypothesis:
    """Read a hypothesis. Raises ConfigError where the file is none, or its outcomes overlap or leave a gap."""
    hypothesis = spec_file.read_spec(Hypothesis, path)
    if wrong := outcomes.interval_faults([each.when for each in hypothesis.outcomes]):
        raise combined_error(
            ConfigError, f"{path}: the outcomes overlap or do not cover every x:", wrong, "correct them"
        )
    if hypothesis.treatment.before == hypothesis.treatment.after:
        raise ConfigError(
            f"{path}: the treatment changes nothing: {hypothesis.treatment.after!r}",
            fix="give different before and after",
        )
    return hypothesis


def freeze_hypothesis(path: Path, now: float | None = None) -> str:
    """Log the hypothesis' digest and the time in a file beside it; return the digest.

    Freezing the same content again logs nothing.
    """
    read_hypothesis(path)
    sha256 = digest.sha256_json(spec_file.parse_spec(path))
    if not any(line["sha256"] == sha256 for line in _frozen_log(path)):
        line = {"sha256": sha256, "time": round(time.time() if now is None else now, 3)}
        before = _frozen_log_path(path).read_bytes() if _frozen_log_path(path).is_file() else b""
        digest.write_atomically(_frozen_log_path(path), before + json.dumps(line).encode() + b"\n")
    return sha256


def frozen_reference(path: Path) -> dict[str, Any]:
    """Return what a run records of the hypothesis it is started under: id, digest and time of freezing.

    Raises UsageError where it was never frozen, ArtifactError where it has changed since.
    """
    hypothesis, sha256 = read_hypothesis(path), digest.sha256_json(spec_file.parse_spec(path))
    return {"id": hypothesis.id, "sha256": sha256, "frozen": _frozen_entry(path, sha256).get("time")}


def evaluate_hypothesis(path: Path, treated: Path, control: Path) -> Evaluation:
    """Evaluate a frozen hypothesis on a treated run and a control run.

    Raises ArtifactError where the hypothesis changed after it was frozen, was frozen after the treated run had begun,
    or is not the one that the run was started under; UsageError where it was never frozen.
    """
    hypothesis, sha256 = read_hypothesis(path), digest.sha256_json(spec_file.parse_spec(path))
    entries = {
        name: run_facts.metric_entries(folder / METRICS)
        for name, folder in (("treated", treated), ("control", control))
    }
    skipped = [*_refuse_changed(path, sha256, entries["treated"]), *_refuse_another(path, sha256, treated)]
    a, b = run_facts.read_run_facts(treated), run_facts.read_run_facts(control)
    void = _not_applied(hypothesis, entries, a, b) + _not_alone(hypothesis, a, b)
    values = [_metric(folder, hypothesis.metric) for folder in (treated, control)]
    x = values[0]
    if hypothesis.measure != "treated":
        x = None if None in values else (values[0] or 0.0) - (values[1] or 0.0)
    if x is None or not math.isfinite(x):
        x, void = None, [*void, f"not measured: no '{hypothesis.metric}' in {RESULTS}"]
    chosen = None if x is None else outcomes.matching_outcome([each.when for each in hypothesis.outcomes], x)
    verdict = f"void: {void[0]}" if void or chosen is None else hypothesis.outcomes[chosen].verdict
    return Evaluation(hypothesis.id, sha256, verdict, x, tuple(void), tuple(skipped))


def _frozen_log_path(path: Path) -> Path:
    return path.with_name(path.name + FROZEN)


def _frozen_log(path: Path) -> list[dict[str, Any]]:
    if not _frozen_log_path(path).is_file():
        return []
    faults: list[str] = []
    lines = [line for _, line in scored_rows.json_lines(_frozen_log_path(path), faults)]
    if faults or any(not isinstance(line.get("sha256"), str) for line in lines):
        raise ArtifactError(
            f"{_frozen_log_path(path)}: damaged: {'; '.join(faults[:3])}", fix="restore it from version control"
        )
    return lines


def _frozen_entry(path: Path, sha256: str) -> dict[str, Any]:
    """Return the log line that matches the file's present content."""
    log = _frozen_log(path)
    if not log:
        raise UsageError(f"{path}: never frozen", fix=f"thunder hypothesis freeze {path}, before the run")
    frozen = next((line for line in log if line["sha256"] == sha256), None)
    if frozen is None:
        raise ArtifactError(
            f"{path}: changed since it was frozen: digest {sha256[:12]}, frozen digest {log[-1]['sha256'][:12]}",
            fix="restore the frozen version; what a run shows is a new hypothesis, for a new run",
        )
    return frozen


def _refuse_another(path: Path, sha256: str, treated: Path) -> list[str]:
    """List what could not be checked about the digest that the run recorded at its start."""
    plan = json_object(treated / PLAN, []) if (treated / PLAN).is_file() else {}
    logged = plan.get("hypothesis")
    if not isinstance(logged, dict):
        return [f"whether {treated.name} was started with this hypothesis: it logs none (--hypothesis FILE)"]
    if logged.get("sha256") != sha256:
        raise ArtifactError(
            f"{path}: {sha256[:12]} is not the hypothesis that {treated.name} was started with: "
            f"{logged.get('id')}, {str(logged.get('sha256'))[:12]}",
            fix="name the hypothesis that the run was started with",
        )
    return []


def _refuse_changed(path: Path, sha256: str, entries: list[dict[str, Any]]) -> list[str]:
    """List what could not be checked about the order of events."""
    frozen = _frozen_entry(path, sha256)
    times = [entry["time"] for entry in entries if isinstance(entry.get("time"), int | float)]
    if not times or not isinstance(frozen.get("time"), int | float):
        return ["whether it was frozen before the run: a time is not logged"]
    if min(times) <= frozen["time"]:
        raise ArtifactError(
            f"{path}: frozen {frozen['time'] - min(times):.0f} s after the treated run started",
            fix="it cannot test that run: freeze the hypothesis first, then run",
        )
    return []


def _not_applied(
    hypothesis: Hypothesis, entries: Mapping[str, list[dict[str, Any]]], treated: RunFacts, control: RunFacts
) -> list[str]:
    """List the reasons why the logs do not show the treatment."""
    check, reasons = hypothesis.manipulation_check, []
    apart = _share_apart(*(_trace(lines, check.trace) for lines in entries.values()), check.differs_by)
    if apart is None:
        reasons.append(f"treatment not shown: '{check.trace}' is not logged at a step that both runs have")
    elif apart < check.at_least:
        text = f"'{check.trace}' differs at {apart:.0%} of the steps, expected {check.at_least:.0%}"
        reasons.append(f"treatment not applied: {text}")
    key = canonical_name(hypothesis.treatment.key)
    for run, expected in ((treated, hypothesis.treatment.after), (control, hypothesis.treatment.before)):
        if key in run.options and run.options[key] != expected:
            reasons.append(f"other treatment: {run.name} has {key} {run.options[key]!r}, not {expected!r}")
    if hypothesis.budget_steps:
        done = treated.done.steps or 0
        if done < LEAST_BUDGET * hypothesis.budget_steps:
            reasons.append(f"budget not run: {done} of {hypothesis.budget_steps} updates, expected {LEAST_BUDGET:.0%}")
    return reasons


def _not_alone(hypothesis: Hypothesis, treated: RunFacts, control: RunFacts) -> list[str]:
    """List other differences between the two runs that could also explain the result."""
    key = canonical_name(hypothesis.treatment.key)
    known = {*treated.options, *control.options}
    drift = drift_report.compare_runs(treated, control, [key] if key in known else [])
    return [f"other factors: {drift.sentence}"] if drift.factors else []


def _trace(entries: list[dict[str, Any]], key: str) -> dict[int, float | str]:
    """Return step -> value; the later line wins where a step occurs twice."""
    trace: dict[int, float | str] = {}
    for entry in entries:
        step, value = run_facts.whole_number(entry.get("step")), entry.get(key)
        if step is not None and isinstance(value, int | float | str):
            trace[step] = str(value) if isinstance(value, bool) else value
    return trace


def _share_apart(trace_a: Mapping[int, Any], trace_b: Mapping[int, Any], tolerance: float) -> float | None:
    texts = {
        step
        for step in trace_a.keys() & trace_b.keys()
        if isinstance(trace_a[step], str) or isinstance(trace_b[step], str)
    }
    if texts:
        return sum(trace_a[step] != trace_b[step] for step in texts) / len(texts)
    return run_facts.share_of_differing_steps(trace_a, trace_b, tolerance)


def _metric(folder: Path, name: str) -> float | None:
    value: Any = json_object(folder / RESULTS, []) if (folder / RESULTS).is_file() else {}
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

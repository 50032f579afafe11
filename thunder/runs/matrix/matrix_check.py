"""Find the faults of a matrix before it runs, and the fewest added runs that mend them (pure)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from thunder.errors import ConfigError
from thunder.runs.compare.drift_report import format_drift
from thunder.runs.matrix import matrix_spec as matrices
from thunder.runs.matrix.matrix_spec import Comparison, Matrix, MatrixRun

ResolveOptions = Callable[[Mapping[str, Any]], Mapping[str, Any]]
SEEDS = 3  # fewest seeds for a comparative word such as 'improves'
_COMPARATIVE = re.compile(
    r"\b(improv\w*|better|worse|lower\w*|higher|beats?|outperform\w*|reduc\w*|gain\w*|helps?|hurts?|more|less|faster)\b",
    re.IGNORECASE,
)
_WORD = r"(?<![A-Za-z]){}(?![A-Za-z])"


@dataclass(frozen=True)
class MatrixFinding:
    """One fault: the rule, what is wrong, and a run that would mend it, where one would."""

    rule: str
    said: str
    proposal: dict[str, Any] | None = field(default=None)


def check_matrix(matrix: Matrix, resolve: ResolveOptions, definitions: str | None) -> list[MatrixFinding]:
    """Return all faults of a matrix.

    resolve: options -> all options with their defaults, or a ConfigError. definitions: the text of the matrix' file of
    definitions, None where there is none.
    """
    resolved: dict[str, Mapping[str, Any]] = {}
    findings = list(_collisions(matrix))
    for run in matrix.runs:
        try:
            resolved[run.id] = resolve(matrices.cell_options(matrix, run))
        except ConfigError as error:
            findings.append(MatrixFinding("options", f"run {run.id}: {' '.join(error.message.split())}"))
    findings += _split(matrix)
    for comparison in matrix.comparisons:
        findings += _one_factor(matrix, comparison, resolved)
    findings += _claims(matrix, definitions)
    findings += _budget(matrix)
    return findings


def _collisions(matrix: Matrix) -> Iterator[MatrixFinding]:
    for kind, names in (
        ("run", [run.id for run in matrix.runs]),
        ("folder", [cell.id for cell in matrices.matrix_cells(matrix)]),
        ("comparison", [comparison.name for comparison in matrix.comparisons]),
    ):
        for name, times in Counter(names).items():
            if times > 1 and not (kind == "folder" and any(run.id == name for run in matrix.runs)):
                yield MatrixFinding("names", f"{kind} {name!r} occurs {times} times")
    conditions: dict[str, str] = {}
    for cell in matrices.matrix_cells(matrix):
        earlier = conditions.setdefault(cell.sha256, cell.id)
        if earlier != cell.id:
            yield MatrixFinding("names", f"runs {earlier!r} and {cell.id!r} are the same run")


def _split(matrix: Matrix) -> Iterator[MatrixFinding]:
    split, rows = matrix.snapshot.split, matrix.snapshot.rows
    total = split.train + split.val + split.test
    if total != rows:
        counts = f"train {split.train} + val {split.val} + test {split.test} = {total}"
        yield MatrixFinding("split", f"snapshot {matrix.snapshot.name}: {counts}, not its {rows} rows")
    if unknown := sorted(split.sha256.keys() - set(matrices.PARTS)):
        yield MatrixFinding("split", f"snapshot {matrix.snapshot.name}: digest of {unknown[0]!r}, which is not a part")


def _one_factor(
    matrix: Matrix, comparison: Comparison, resolved: Mapping[str, Mapping[str, Any]]
) -> Iterator[MatrixFinding]:
    """Check that both ends of a comparison exist and differ in the declared factor only."""
    ends = {name: matrices.run_named(matrix, name) for name in (comparison.a, comparison.b)}
    if missing := [name for name, run in ends.items() if run is None]:
        existing = next((run for run in ends.values() if run), None)
        proposal = _without(matrix, existing, comparison.factor, missing[0]) if existing else None
        yield MatrixFinding(
            "ends", f"comparison {comparison.name!r}: there is no run {', '.join(map(repr, missing))}", proposal
        )
        return
    if comparison.a not in resolved or comparison.b not in resolved:
        return
    differ = matrices.differing_options(resolved[comparison.a], resolved[comparison.b])
    declared = [name for name in differ if matrices.is_factor(comparison.factor, name)]
    undeclared = [name for name in differ if name not in declared]
    if not declared:
        yield MatrixFinding(
            "one factor",
            f"comparison {comparison.name!r}: {comparison.a} and {comparison.b} do not differ in {comparison.factor}",
        )
    if undeclared or len(declared) > 1:
        values = ", ".join(f"{name} ({format_drift(a)} vs {format_drift(b)})" for name, (a, b) in differ.items())
        pair = f"comparison {comparison.name!r}: {comparison.a} and {comparison.b}"
        text = f"{pair} differ in {values}: cannot attribute it to {comparison.factor}"
        proposal = _between(matrix, comparison, resolved, declared) if undeclared and len(declared) == 1 else None
        yield MatrixFinding("one factor", text, proposal)


def _between(
    matrix: Matrix, comparison: Comparison, resolved: Mapping[str, Mapping[str, Any]], declared: list[str]
) -> dict[str, Any] | None:
    """Return the run that would complete a comparison: its plain end under the other end's regime."""
    parts = {name: matrices.split_parts(resolved[name]) for name in (comparison.a, comparison.b)}
    rich = max((comparison.a, comparison.b), key=lambda name: len(parts[name]))
    run = matrices.run_named(matrix, rich)
    plain = comparison.a if rich == comparison.b else comparison.b
    if not run:
        return None
    if not declared[0].startswith("mode."):
        value = resolved[plain].get(declared[0])
        flags = {**run.flags, declared[0]: value}
        return run.resolved() | {"id": f"{run.id}_{declared[0]}_{format_drift(value)}", "flags": flags}
    return _without(matrix, run, declared[0].removeprefix("mode."), None)


def _without(matrix: Matrix, run: MatrixRun, factor: str, name: str | None) -> dict[str, Any]:
    """Return a run without one part of its mode, or without an option of its own, otherwise unchanged."""
    part = factor.removeprefix("mode.").removeprefix("use_")
    parts = [each for each in run.mode.split("+") if each != part] or [matrices.PLAIN]
    flags = {key: value for key, value in run.flags.items() if key not in (factor, f"use_{part}")}
    mode = "+".join(parts)
    free = f"{run.script}_{mode.replace('+', '_')}_{matrix.snapshot.rows}"
    return run.resolved() | {"id": name or free, "mode": mode, "flags": flags}


def _claims(matrix: Matrix, definitions: str | None) -> Iterator[MatrixFinding]:
    by_name = {comparison.name: comparison for comparison in matrix.comparisons}
    for claim in matrix.claims:
        comparison = by_name.get(claim.comparison)
        if comparison is None:
            yield MatrixFinding("claims", f"claim {claim.text!r}: there is no comparison {claim.comparison!r}")
            continue
        seeds = len(matrices.comparison_pairs(matrix, comparison))
        least = max(claim.min_seeds, SEEDS) if (word := _COMPARATIVE.search(claim.text)) else claim.min_seeds
        if seeds < least:
            why = f": {word[0]!r} needs {SEEDS}" if word and least > claim.min_seeds else ""
            text = f"{comparison.a} and {comparison.b} share {seeds} seeds, expected {least}{why}"
            yield MatrixFinding("seeds", f"claim {claim.text!r}: {text}")
        ends = [run for name in (comparison.a, comparison.b) if (run := matrices.run_named(matrix, name))]
        parts = set().union(*(matrices.split_parts(matrices.cell_options(matrix, run)) for run in ends))
        undefined = [p for p in sorted(parts) if not re.search(_WORD.format(p), definitions or "", re.IGNORECASE)]
        if undefined:
            source = matrix.definitions or "a definitions file; the matrix names none"
            yield MatrixFinding("definitions", f"claim {claim.text!r}: {', '.join(undefined)} not defined in {source}")


def estimated_hours(matrix: Matrix) -> float | None:
    """Return the estimate for all runs; None where one of them has no estimate."""
    hours = [run.hours or matrix.estimate.hours for run in matrix.runs for _ in matrices.run_seeds(matrix, run)]
    return None if None in hours else sum(value or 0.0 for value in hours)


def _budget(matrix: Matrix) -> Iterator[MatrixFinding]:
    budget, total = matrix.budget, estimated_hours(matrix)
    if budget.hours is None and budget.usd is None:
        return
    if total is None:
        yield MatrixFinding("budget", "the matrix has a budget but no estimate: give estimate.hours")
        return
    if budget.hours is not None and total > budget.hours:
        yield MatrixFinding("budget", f"{total:g} hours are estimated, the budget is {budget.hours:g}")
    cost = total * matrix.estimate.usd_per_hour
    if budget.usd is not None and cost > budget.usd:
        yield MatrixFinding("budget", f"{cost:.2f} USD are estimated, the budget is {budget.usd:.2f}")

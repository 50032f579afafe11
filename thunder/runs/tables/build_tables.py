"""Build tables from sealed runs: every cell is recomputed from rows; only comparable runs are compared."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thunder import digest
from thunder.errors import GateError, UsageError, combined_error
from thunder.runs.bundles import bundle, scored_rows
from thunder.runs.bundles.scored_rows import ScoredRow
from thunder.runs.compare import drift_report, run_facts
from thunder.runs.compare.run_facts import RunFacts
from thunder.runs.tables.table_spec import TableSpec, TablesSpec

COUNTS = ("rows", "chars", "runs")  # metrics that are counts, not rates
SEED = "seed"


@dataclass(frozen=True)
class RunEvidence:
    """A sealed and intact run. sha256: of its manifest; rows_sha256: of its test rows."""

    name: str
    sha256: str
    rows_sha256: str
    rows: Sequence[ScoredRow]
    facts: RunFacts


@dataclass(frozen=True)
class TableCell:
    """One number. key: table/row/column; value: a share or a count, None where it is not defined.

    deviation: sample standard deviation over the runs behind it, None for a single run. runs: name -> manifest.
    """

    key: str
    text: str
    value: float | None
    deviation: float | None
    expression: str
    runs: Mapping[str, str]


@dataclass(frozen=True)
class TableLine:
    """A row of a table. notes: numbers of its footnotes, from 1."""

    name: str
    cells: tuple[TableCell, ...]
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class BuiltTable:
    """A finished table: rows that compare with the baseline, rows that do not, and footnotes."""

    spec: TableSpec
    comparable: tuple[TableLine, ...]
    others: tuple[TableLine, ...]
    notes: tuple[str, ...]

    @property
    def baseline(self) -> str:
        """The row that the others are compared with."""
        return self.spec.baseline or self.spec.rows[0]


def gather_evidence(spec: TablesSpec, find: Callable[[str], Path]) -> tuple[dict[str, RunEvidence], dict[str, str]]:
    """Return the runs of a spec, and why the others are unusable: missing, not sealed, or not intact.

    find: name -> folder of a run; raises UsageError where there is none.
    """
    evidence, refused = {}, {}
    for name in dict.fromkeys(name for ids in spec.runs.values() for name in ids):
        try:
            folder = find(name)
            report, rows = bundle.inspect_bundle_with_rows(folder)
        except UsageError as error:
            refused[name] = error.message
            continue
        if report.sealed is None or report.faults:
            refused[name] = report.faults[0] if report.faults else "it is not sealed"
        elif folder.name != name:
            refused[name] = f"its id is {folder.name}: a table names runs by their ids"
        else:
            of_rows = digest.sha256_json([[row.name, row.hypothesis, row.reference] for row in rows]) if rows else ""
            evidence[name] = RunEvidence(name, report.sealed, of_rows, rows, run_facts.read_run_facts(folder))
    return evidence, refused


def build_table(spec: TablesSpec, evidence: Mapping[str, RunEvidence]) -> list[BuiltTable]:
    """Build the tables of a spec whose runs are all present (pure).

    Raises GateError where two runs behind one row are the same, UsageError where `allow` names an unknown option.
    """
    _refuse_duplicates(spec, evidence)
    return [_table(spec, table, evidence) for table in spec.tables]


def _refuse_duplicates(spec: TablesSpec, evidence: Mapping[str, RunEvidence]) -> None:
    """Raise GateError where two runs of one seed gave the same answers: one run would count twice."""
    faults = []
    for row, names in spec.runs.items():
        first_names: dict[tuple[str, object], str] = {}
        for name in names:
            run = evidence[name]
            mark = (run.rows_sha256, run.facts.options.get(SEED))
            if run.rows_sha256 and (earlier := first_names.setdefault(mark, name)) != name:
                faults.append(f"'{row}': {earlier} and {name} have the same seed and the same answers to the same rows")
    if faults:
        raise combined_error(GateError, "one run was counted twice:", faults, fix="name each run once")


def _table(spec: TablesSpec, table: TableSpec, evidence: Mapping[str, RunEvidence]) -> BuiltTable:
    groups = {
        row: [evidence[name] for name in spec.runs[row]] for row in {*table.rows, table.baseline or table.rows[0]}
    }
    drift_report.refuse_unknown_factors(table.allow, *(each.facts for group in groups.values() for each in group))
    base = groups[table.baseline or table.rows[0]]
    notes: list[str] = []
    lines: dict[bool, list[TableLine]] = {True: [], False: []}
    for row in table.rows:
        comparable, run_notes = judge_comparison(groups[row], base, table.allow)
        numbers = tuple(_numbered(notes, text) for text in run_notes)
        cells = tuple(compute_cell(spec, groups[row], each, f"{table.name}/{row}/{each}") for each in table.columns)
        lines[comparable].append(TableLine(row, cells, numbers))
    return BuiltTable(table, tuple(lines[True]), tuple(lines[False]), tuple(notes))


def _numbered(notes: list[str], text: str) -> int:
    """Return the number of a footnote; equal footnotes share one number."""
    if text not in notes:
        notes.append(text)
    return notes.index(text) + 1


def judge_comparison(
    group: Sequence[RunEvidence], base: Sequence[RunEvidence], allow: Sequence[str]
) -> tuple[bool, list[str]]:
    """Return whether a row may stand beside the baseline, and its notes.

    The row's own runs may differ in their seed alone; from the baseline's runs also in what the table declares.
    """
    pairs = [(group[0], each, [SEED]) for each in group[1:]]
    pairs += [(base[0], each, [SEED, *allow]) for each in group if each is not base[0]]
    comparable, notes = True, []
    for run_a, run_b, allowed in pairs:
        drift = drift_report.compare_runs(run_a.facts, run_b.facts, allowed)
        comparable = comparable and drift.verdict != "not_comparable"
        if drift.verdict != "comparable" and drift.sentence not in notes:
            notes.append(drift.sentence)
    return comparable, notes


def compute_cell(spec: TablesSpec, group: Sequence[RunEvidence], expression: str, key: str) -> TableCell:
    """Return the mean of a metric over runs, as printed: rates in per cent."""
    metric, _, partition = expression.partition("@")
    if metric == "runs":
        values: list[float | None] = [float(len(group))]
    else:
        values = [
            _metric_value(metric, [row for row in each.rows if partition in ("", row.partition)]) for each in group
        ]
    present = [value for value in values if value is not None]
    complete = len(present) == len(values) and present
    mean = statistics.fmean(present) if complete else None
    deviation = statistics.stdev(present) if complete and len(present) > 1 else None
    text = format_cell(mean, deviation, None if metric in COUNTS else spec.digits)
    return TableCell(key, text, mean, deviation, expression, {each.name: each.sha256 for each in group})


def _metric_value(metric: str, rows: Sequence[ScoredRow]) -> float | None:
    """Return a metric of one run's rows; None where there is no row, or no such text in them."""
    if metric in COUNTS:
        return scored_rows.METRICS[metric](rows)
    name = metric.removeprefix("cer_")
    if name in scored_rows.ANSWERS:
        return scored_rows.error_rate_of_rows(rows, name) if rows and name in rows[0].counts else None
    return scored_rows.METRICS[metric](rows) if rows else None


def format_cell(mean: float | None, deviation: float | None, digits: int | None) -> str:
    """Format a number for a table. digits: of a rate in per cent; None for a count."""
    if mean is None:
        return "-"
    if digits is None:
        return f"{mean:.0f}" if not deviation else f"{mean:.1f} ± {deviation:.1f}"
    text = f"{100 * mean:.{digits}f}"
    return text if deviation is None else f"{text} ± {100 * deviation:.{digits}f}"

"""Render a matrix as one page: a heat table of its runs, comparisons, and training curves."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from thunder.errors import UsageError
from thunder.runs.bundles.bundle_checks import json_object
from thunder.runs.compare import drift_report, run_facts
from thunder.runs.compare.drift_report import Drift
from thunder.runs.compare.run_facts import RunFacts
from thunder.runs.matrix import matrix_spec
from thunder.runs.matrix.matrix_spec import Comparison, Matrix
from thunder.runs.matrix.matrix_status import CellState
from thunder.runs.records.option_names import canonical_name
from thunder.runs.records.registry import PLAN
from thunder.runs.records.run_record import METRICS
from thunder.statistics.welch import welch_p_value

CER = "CER"
_DASHED = 'stroke="currentColor" stroke-dasharray="2 3" opacity=".5"'
STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1e; --paper: #fcfcfd; --soft: #6b6b76; --line: #d9d9e0;
  --heat: 215 80 60; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ec; --paper: #17171b; --soft: #9d9da8; --line: #3a3a43; } }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, "Noto Sans", "Noto Sans NKo", "Ebrima", sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } .soft { color: var(--soft); }
.wide { overflow-x: auto; } table { border-collapse: collapse; } a { color: inherit; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap;
  font-variant-numeric: tabular-nums; } th:first-child, td:first-child { text-align: left; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .75rem; }
figure { margin: 0; border: 1px solid var(--line); border-radius: .5rem; padding: .5rem; }
svg { width: 100%; height: auto; } figcaption { font-size: .85rem; }
"""


@dataclass(frozen=True)
class ComparisonResult:
    """The result of a comparison. values: error rates of a and b by seed; drifts: the reports of the pairs."""

    comparison: Comparison
    a: list[float]
    b: list[float]
    drifts: list[Drift]

    @property
    def holds(self) -> bool:
        """Whether every pair may be compared."""
        return bool(self.drifts) and all(drift.verdict != "not_comparable" for drift in self.drifts)

    @property
    def change(self) -> float | None:
        """Mean of b minus mean of a."""
        return statistics.fmean(self.b) - statistics.fmean(self.a) if self.a else None


def comparison_results(plan: Matrix, states: Sequence[CellState]) -> list[ComparisonResult]:
    """Return every comparison of the matrix, from the runs that are done."""
    by = {comparison.cell.id: comparison for comparison in states if comparison.cer is not None}
    facts: dict[str, RunFacts] = {name: run_facts.read_run_facts(comparison.folder) for name, comparison in by.items()}
    results = []
    for comparison in plan.comparisons:
        pairs = [(a.id, b.id) for a, b in matrix_spec.comparison_pairs(plan, comparison) if a.id in by and b.id in by]
        drifts = [_drift(facts[a], facts[b], comparison.factor) for a, b in pairs]
        results.append(
            ComparisonResult(
                comparison, [by[a].cer or 0.0 for a, _ in pairs], [by[b].cer or 0.0 for _, b in pairs], drifts
            )
        )
    return results


def _drift(a: RunFacts, b: RunFacts, factor: str) -> Drift:
    modal = {"mode", "use_ttt", "reg", "reg_weight"}
    name = canonical_name(factor.replace("-", "_"))
    allow = modal if name.startswith("mode") or name in modal else {name}
    known = {*a.options, *b.options}
    try:
        return drift_report.compare_runs(a, b, allow & known)
    except UsageError:
        return drift_report.compare_runs(a, b)


def matrix_markdown(plan: Matrix, states: Sequence[CellState]) -> str:
    """Render the page as Markdown for a repository."""
    rows = _rows(plan, states)
    seeds = _seeds(states)
    lines = [f"# {plan.id}", "", *([plan.why, ""] if plan.why else []), _snapshot(plan), ""]
    lines += [f"| run | {' | '.join(f'seed {seed}' for seed in seeds)} | mean | sd |", "|---" * (len(seeds) + 3) + "|"]
    for name, cells in rows.items():
        shown = [_cell_text(cells.get(seed)) for seed in seeds]
        lines.append(f"| {name} | {' | '.join(shown)} | {' | '.join(_mean(cells.values()))} |")
    for title, block in _blocks(comparison_results(plan, states)):
        lines += [
            "",
            f"## {title}",
            "",
            "| comparison | factor | seeds | change of CER | Welch p |",
            "|---|---|---|---|---|",
        ]
        lines += [f"| {' | '.join(_line(result))} [^{result.comparison.name}] |" for result in block]
        lines += ["", *(f"[^{result.comparison.name}]: {_footnote(result)}" for result in block)]
    return "\n".join(lines) + "\n"


def matrix_html(plan: Matrix, states: Sequence[CellState], base: Path) -> str:
    """Render the page as HTML; links are relative to `base`."""
    parts = [f"<h1>{escape(plan.id)}</h1><p>{escape(plan.why)}</p><p class=soft>{escape(_snapshot(plan))}</p>"]
    parts += [f"<h2>{CER} on the test rows</h2>", _heat(plan, states, base)]
    for title, block in _blocks(comparison_results(plan, states)):
        cells = "".join(
            f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in _line(one))}<td>{number}</td></tr>"
            for number, one in enumerate(block, 1)
        )
        heads = "".join(f"<th>{head}</th>" for head in ("comparison", "factor", "seeds", "change", "Welch p", "note"))
        notes = "".join(f"<li>{escape(_footnote(one))}</li>" for one in block)
        parts.append(f"<h2>{title}</h2><div class=wide><table><tr>{heads}</tr>{cells}</table></div>")
        parts.append(f"<ol class=soft>{notes}</ol>")
    curves = [_curve(one) for one in states if (one.folder / METRICS).is_file()]
    if curves:
        parts.append(
            "<h2>Loss: training (thin), validation (thick); dashed lines at epoch starts, ring at the best</h2>"
        )
        parts.append(f'<div class="curves">{"".join(curves)}</div>')
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(plan.id)}</title>'
    return (
        f"<!doctype html><html lang=en><head>{head}<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _snapshot(plan: Matrix) -> str:
    split = plan.snapshot.split
    parts = f"train {split.train}, val {split.val}, test {split.test}"
    return f"Snapshot {plan.snapshot.name}: {plan.snapshot.rows} rows, {parts}."


def _seeds(states: Sequence[CellState]) -> list[int]:
    return sorted({state.cell.seed for state in states})


def _rows(plan: Matrix, states: Sequence[CellState]) -> dict[str, dict[int, CellState]]:
    return {run.id: {state.cell.seed: state for state in states if state.cell.run.id == run.id} for run in plan.runs}


def _cell_text(state: CellState | None) -> str:
    if state is None:
        return ""
    return f"{state.cer:.4f}" if state.cer is not None else state.state


def _mean(cells: Iterable[CellState]) -> tuple[str, str]:
    values = [state.cer for state in cells if state.cer is not None]
    mean = f"{statistics.fmean(values):.4f}" if values else "-"
    return mean, f"{statistics.stdev(values):.4f}" if len(values) > 1 else "-"


def _blocks(results: Sequence[ComparisonResult]) -> list[tuple[str, list[ComparisonResult]]]:
    """Return the comparable pairs and, apart from them, those that are not; an empty block is left out."""
    done = [result for result in results if result.drifts]
    blocks = [
        ("Comparisons", [result for result in done if result.holds]),
        ("Not comparable", [result for result in done if not result.holds]),
    ]
    return [(title, block) for title, block in blocks if block]


def _line(result: ComparisonResult) -> list[str]:
    p = welch_p_value(result.a, result.b) if result.holds else None
    change = f"{result.change:+.4f}" if result.holds and result.change is not None else "not stated"
    named = f"{result.comparison.name}: {result.comparison.a} → {result.comparison.b}"
    return [named, result.comparison.factor, str(len(result.a)), change, "-" if p is None else f"{p:.3g}"]


def _footnote(result: ComparisonResult) -> str:
    worst = next((each for each in result.drifts if each.verdict == "not_comparable"), result.drifts[0])
    return f"{worst.verdict}: {worst.sentence}"


def _heat(plan: Matrix, states: Sequence[CellState], base: Path) -> str:
    values = [state.cer for state in states if state.cer is not None]
    low, high = min(values, default=0.0), max(values, default=1.0)
    seeds = _seeds(states)
    lines = [f"<tr><th>run</th>{''.join(f'<th>seed {seed}</th>' for seed in seeds)}<th>mean</th><th>sd</th></tr>"]
    for name, cells in _rows(plan, states).items():
        row = [f"<td>{escape(name)}</td>"]
        for seed in seeds:
            state = cells.get(seed)
            row.append(_heat_cell(state, low, high, base) if state else "<td></td>")
        row += [f"<td>{text}</td>" for text in _mean(cells.values())]
        lines.append(f"<tr>{''.join(row)}</tr>")
    loose = any(state.cer is not None and state.state != "sealed" for state in states)
    note = "<p class=soft>* not sealed: its number may still change.</p>" if loose else ""
    return f"<div class=wide><table>{''.join(lines)}</table></div>{note}"


def _heat_cell(state: CellState, low: float, high: float, base: Path) -> str:
    text = _cell_text(state)
    if state.cer is None:
        return f'<td class=soft title="{escape(state.why or "")}">{escape(text)}</td>'
    warmth = (state.cer - low) / (high - low) if high > low else 0.0
    report = state.folder / "report.html"
    link = os.path.relpath(report if report.is_file() else state.folder, base)
    mark = "" if state.state == "sealed" else "*"
    style = f"background: rgb(var(--heat) / {0.08 + 0.5 * warmth:.2f})"
    return f'<td style="{style}"><a href="{escape(link)}">{text}</a>{mark}</td>'


def _curve(state: CellState) -> str:
    """Draw the losses of a run by step, with marks where an epoch begins."""
    entries = run_facts.metric_entries(state.folder / METRICS)
    train, valid = run_facts.learning_rate_trace(entries, "loss"), run_facts.learning_rate_trace(entries, "valid_loss")
    # the loss before the first update is left out: it would compress the rest of the curve
    later = [(step, loss) for trace in (train, valid) for step, loss in trace.items() if step]
    losses = [loss for _, loss in later if math.isfinite(loss)]
    if len(losses) < 2:
        return ""
    last, top, bottom = max((*train, *valid, 1)), max(losses), min(losses)

    def place(step: float, loss: float) -> tuple[float, float]:
        return 8 + 284 * step / last, max(4.0, 8 + 104 * (top - loss) / ((top - bottom) or 1))

    def path(points: dict[int, float], width: float) -> str:
        spots = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in points.items() if math.isfinite(point[1]))
        return f'<polyline points="{spots}" fill="none" stroke="currentColor" stroke-width="{width}"/>'

    lines = [path(train, 0.7), path(valid, 2)]
    for step in epoch_steps(state.folder, last):
        x, _ = place(step, top)
        lines.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="116" {_DASHED}/>')
    best = ""
    if valid:
        step = min(valid, key=lambda each: (valid[each], each))
        x, y = place(step, valid[step])
        lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="none" stroke="currentColor"/>')
        best = f", best {valid[step]:.4g} at step {step}"
    drawing = f'<svg viewBox="0 0 300 120" role="img" aria-label="loss by step">{"".join(lines)}</svg>'
    return f"<figure>{drawing}<figcaption>{escape(state.cell.id)}{best}</figcaption></figure>"


def epoch_steps(folder: Path, last: int) -> list[float]:
    """Return the steps at which a run's epochs begin, up to its last step; empty where its plan does not tell."""
    length = json_object(folder / PLAN, []).get("length") if (folder / PLAN).is_file() else None
    length = length if isinstance(length, dict) else {}
    epochs, updates = length.get("epochs"), length.get("updates")
    if not isinstance(epochs, int | float) or not isinstance(updates, int | float) or not epochs:
        return []
    each = updates / epochs
    # with very many epochs the lines would cover the plot
    return [each * number for number in range(1, math.ceil(last / each))] if last / each <= 60 else []

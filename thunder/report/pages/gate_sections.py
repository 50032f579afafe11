"""Sections on the gate: its decisions by partition, and their reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from thunder.evaluation.metrics import summary
from thunder.report import charts
from thunder.report.page_model import PageSection, PageTable
from thunder.report.run_files import get_object, get_text
from thunder.text.row_fields import UNKNOWN

DECISIONS = ("accept", "reject", "keep")
# of a log or an evaluation behind the gate, with its partition, decision and reasons
DecisionRecord = Mapping[str, Any]


def decision_sections(records: Sequence[DecisionRecord], notes: Sequence[str] = ()) -> list[PageSection]:
    """Return decisions by partition, with notes, and how often each rule was a reason."""
    return [_decision_section(records, notes), *_reason_sections(records)]


def gate_notes(gate: DecisionRecord) -> list[str]:
    """Return notes of `thunder agp eval` on the gate besides the decisions."""
    refused, breaker = get_object(gate, "refused"), get_text(gate, "breaker")
    counts = ", ".join(f"{count} {kind}" for kind, count in refused.items())
    lines = [f"Had the rejected proposals been taken: {counts}."] if any(refused.values()) else []
    return [*lines, *([f"As one batch the rows would have been stopped: {breaker}."] if breaker else [])]


def rule_names(record: DecisionRecord) -> list[str]:
    """Return the names of the rules that a decision gives as reasons."""
    return [str(each[0]) for each in _reason_pairs(record)]


def reason_details(record: DecisionRecord) -> list[str]:
    """Return the reasons, each with its finding."""
    return [": ".join(map(str, each)) for each in _reason_pairs(record)]


def _reason_pairs(record: DecisionRecord) -> list[list[Any]]:
    pairs = record.get("reasons")
    return [each for each in pairs if isinstance(each, list) and each] if isinstance(pairs, list) else []


def _decision_section(records: Sequence[DecisionRecord], notes: Sequence[str]) -> PageSection:
    """Count accepted, rejected and kept rows by partition."""
    counts = Counter((get_text(record, "partition") or UNKNOWN, str(record["decision"])) for record in records)
    places = sorted({name for name, _ in counts}, key=lambda name: (summary.group_order(name), name))
    kinds = list(dict.fromkeys((*DECISIONS, *(kind for _, kind in counts))))
    lines = [[place, *(str(counts[place, kind]) for kind in kinds)] for place in places]
    says = "; ".join(f"{place}: {', '.join(f'{kind} {counts[place, kind]}' for kind in kinds)}" for place in places)
    values = [(place, kind, counts[place, kind]) for place in places for kind in kinds]
    return PageSection(
        "decisions", "Decisions by partition", notes, charts.stacked_chart(values, kinds, "decisions"),
        f"decisions by partition; {says}", PageTable(("", *kinds), lines),
    )  # fmt: skip


def _reason_sections(records: Sequence[DecisionRecord]) -> list[PageSection]:
    """Count how often each rule was a reason; empty if there are none."""
    counts = Counter(name for record in records for name in dict.fromkeys(rule_names(record)))
    if not counts:
        return []
    lines = counts.most_common()
    table = PageTable(("rule", "decisions"), [[name, str(count)] for name, count in lines])
    says = "; ".join(f"{name} {count}" for name, count in lines)
    notes = ["A decision can have several reasons, and a kept text can break rules as well; all are counted."]
    return [PageSection("reasons", "Reasons", notes, charts.count_chart(lines, "decisions"), f"reasons; {says}", table)]

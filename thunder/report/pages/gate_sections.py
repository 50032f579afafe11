"""The parts of a page that are of the gate: what it decided in each partition, and for which reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from thunder.evaluation.metrics import summary
from thunder.report import charts
from thunder.report.page_model import Section, Table
from thunder.report.run_files import object_in, text_in
from thunder.text.row_fields import UNKNOWN

DECISIONS = ("accept", "reject", "keep")
# of a log or an evaluation behind the gate, with its partition, decision and reasons
Record = Mapping[str, Any]


def parts(records: Sequence[Record], notes: Sequence[str] = ()) -> list[Section]:
    """Decisions by partition, with notes on them, and how often each rule was a reason."""
    return [_decisions(records, notes), *_reasons(records)]


def notes(gate: Record) -> list[str]:
    """What the results of `thunder agp eval` say of the gate beside the decisions."""
    refused, breaker = object_in(gate, "refused"), text_in(gate, "breaker")
    counts = ", ".join(f"{count} {kind}" for kind, count in refused.items())
    found = [f"Had the rejected proposals been taken: {counts}."] if any(refused.values()) else []
    return [*found, *([f"As one batch the rows would have been stopped: {breaker}."] if breaker else [])]


def reasons(record: Record) -> list[str]:
    """The names of the rules that a decision gives as reasons."""
    return [str(each[0]) for each in _pairs(record)]


def details(record: Record) -> list[str]:
    """The same, each with what was found."""
    return [": ".join(map(str, each)) for each in _pairs(record)]


def _pairs(record: Record) -> list[list[Any]]:
    found = record.get("reasons")
    return [each for each in found if isinstance(each, list) and each] if isinstance(found, list) else []


def _decisions(records: Sequence[Record], notes: Sequence[str]) -> Section:
    """How many were accepted, rejected and kept, by partition."""
    counts = Counter((text_in(record, "partition") or UNKNOWN, str(record["decision"])) for record in records)
    places = sorted({name for name, _ in counts}, key=lambda name: (summary.group_order(name), name))
    kinds = list(dict.fromkeys((*DECISIONS, *(kind for _, kind in counts))))
    lines = [[place, *(str(counts[place, kind]) for kind in kinds)] for place in places]
    says = "; ".join(f"{place}: {', '.join(f'{kind} {counts[place, kind]}' for kind in kinds)}" for place in places)
    values = [(place, kind, counts[place, kind]) for place in places for kind in kinds]
    return Section(
        "decisions", "Decisions by partition", notes, charts.stacked(values, kinds, "decisions"),
        f"decisions by partition; {says}", Table(("", *kinds), lines),
    )  # fmt: skip


def _reasons(records: Sequence[Record]) -> list[Section]:
    """How often each rule was a reason; nothing where there is none."""
    counts = Counter(name for record in records for name in dict.fromkeys(reasons(record)))
    if not counts:
        return []
    lines = counts.most_common()
    table = Table(("rule", "decisions"), [[name, str(count)] for name, count in lines])
    says = "; ".join(f"{name} {count}" for name, count in lines)
    notes = ["A decision can have several reasons, and a kept text can break rules as well; all are counted."]
    return [Section("reasons", "Reasons", notes, charts.counts(lines, "decisions"), f"reasons; {says}", table)]

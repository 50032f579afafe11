"""Sections on the test rows of a recognizer's run: one text for each reference, and its errors by partition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from thunder.evaluation.cases import UNKNOWN, script_of_letters
from thunder.evaluation.metrics.summary import BootstrapSettings, group_order
from thunder.report import charts, sections, text_diff
from thunder.report.charts import Dumbbell
from thunder.report.number_format import format_rate
from thunder.report.page_model import PageSection, PageTable, RowView, TextLine
from thunder.report.pages.evaluation_page import is_right_to_left
from thunder.report.pages.page_parts import TestRowParts
from thunder.report.run_files import RunFiles, get_int, get_number, get_object, get_text
from thunder.runs.bundles.bundle_checks import BY_PARTITION
from thunder.runs.bundles.scored_rows import PREDICTIONS, REFERENCES
from thunder.statistics import bootstrap
from thunder.text import distance
from thunder.text.distance import ErrorCount, ErrorCounts

ID_FIELDS = ("feat_id", "row_id", "id")
ROWS_NOTE = "By the partition of each row; the bar is the 95 % bootstrap interval over rows."
CHARACTERS_NOTE = "Each character of the references counts in the partition of the frames that it was heard in."
PredictionRow = dict[str, Any]


def recognizer_test_parts(
    folder: RunFiles, lines: list[PredictionRow], results: Mapping[str, Any], gate: float | None
) -> TestRowParts:
    """Return cards, sections and rows; edits are recomputed from the texts."""
    rows = _join_references(folder, lines)
    counts = [distance.count_all_errors(row["asr_text"].strip(), row["reference_text"].strip()) for row in rows]
    total = sum(counts, ErrorCounts())
    stated = get_number(get_object(results, "test") or results, "cer")
    if stated is not None and total.codepoint.rate is not None and abs(stated - total.codepoint.rate) > 1e-9:
        folder.absent.append(
            f"results.json has cer {format_rate(stated)}, but the rows give {format_rate(total.codepoint.rate)}"
        )
    views = [_row_view(row, count, number) for number, (row, count) in enumerate(zip(rows, counts, strict=True))]
    texts = ((row["reference_text"], row["asr_text"], None) for row in rows)
    parts = [
        *_partition_sections(folder, rows, counts, gate),
        _rate_section(total),
        *sections.confusion_sections(text_diff.count_confusions(texts)),
    ]
    exact = sum(count.codepoint.edits == 0 for count in counts)
    cards = [
        (format_rate(total.codepoint.rate), f"CER on {len(rows)} test rows"),
        (format_rate(total.word.rate), "WER"),
        (f"{exact} of {len(rows)}", "rows without any edit"),
    ]
    return cards, parts, views, []


def _join_references(folder: RunFiles, lines: list[PredictionRow]) -> list[PredictionRow]:
    """Return the rows that have both texts; references may be in another file, under the same id."""
    apart: dict[str | None, str | None] = {}
    if any("reference_text" not in row for row in lines):
        for row in folder.lines(REFERENCES, "rows without a reference are left out"):
            apart[get_text(row, *ID_FIELDS)] = get_text(row, "reference_text", "reference", "text")
    joined = []
    for row in lines:
        reference = get_text(row, "reference_text") or apart.get(get_text(row, *ID_FIELDS))
        asr_text = get_text(row, "asr_text", "prediction", "hypothesis")
        if reference is not None and asr_text is not None:
            joined.append(row | {"reference_text": reference, "asr_text": asr_text})
    if len(joined) < len(lines):
        folder.absent.append(f"{PREDICTIONS}: {len(lines) - len(joined)} of {len(lines)} rows lack a text: left out")
    return joined


def _row_view(row: PredictionRow, count: ErrorCounts, number: int) -> RowView:
    reference, edits = row["reference_text"], count.codepoint.edits
    script = get_text(row, "script") or script_of_letters(reference)
    return RowView(
        row_id=get_text(row, *ID_FIELDS) or f"row {number + 1}",
        place=number,
        lines=[
            TextLine("reference", text_diff.plain_segments(reference)),
            TextLine("recognized", text_diff.diff_segments(row["asr_text"], reference)),
        ],
        outcome="with errors" if edits else "exact",
        partition=get_text(row, "partition") or UNKNOWN,
        script=script,
        before=edits,
        units=count.codepoint.reference_chars,
        rtl=is_right_to_left(script),
    )


def _partition_sections(
    folder: RunFiles, rows: Sequence[PredictionRow], counts: Sequence[ErrorCounts], gate: float | None
) -> list[PageSection]:
    """Return CER by the partition of each row, and of each character, which only the run's own file has."""
    content = folder.json(BY_PARTITION, "no CER by the partition of each character")
    groups: dict[str, list[ErrorCount]] = {}
    for row, count in zip(rows, counts, strict=True):
        groups.setdefault(get_text(row, "partition") or UNKNOWN, []).append(count.codepoint)
    folder.absent += _count_mismatches(groups, _reported_counts(content, "partitions") or _reported_counts(content))
    lines = [
        _RateGroup(f"{name} ({len(rows)} rows)", sum(rows, ErrorCount()), _rate_interval(rows))
        for name, rows in sorted(groups.items(), key=lambda item: group_order(item[0]))
    ]
    parts = [_rate_group_section("partition", "CER by partition", lines, [ROWS_NOTE], gate)] if lines else []
    characters = _reported_counts(content, "characters")
    if characters:
        lines = [_RateGroup(name, characters[name], None) for name in sorted(characters, key=group_order)]
        notes = [f"{CHARACTERS_NOTE} Alignment: {content.get('alignment', 'not said')}."]
        parts.append(_rate_group_section("characters", "CER by the partition of each character", lines, notes, gate))
    return parts


class _RateGroup(NamedTuple):
    """A line of a chart: edits in code points, with a 95 % interval of the rate if there is one."""

    name: str
    count: ErrorCount
    bounds: tuple[float, float] | None


def _rate_group_section(
    name: str, title: str, groups: Sequence[_RateGroup], notes: list[str], gate: float | None
) -> PageSection:
    dots = [Dumbbell(each.name, None, each.count.rate, *(each.bounds or (None, None))) for each in groups]
    lines = [
        [each.name, str(each.count.reference_chars), str(each.count.edits), format_rate(each.count.rate),
         f"{each.bounds[0]:.4f} to {each.bounds[1]:.4f}" if each.bounds else "–"]
        for each in groups
    ]  # fmt: skip
    says = f"{title}: " + "; ".join(f"{each.name} {format_rate(each.count.rate)}" for each in groups)
    table = PageTable(("", "code points", "edits", "CER", "95 %"), lines)
    return PageSection(
        name, title, [*notes, *sections.gate_note(gate)], charts.dumbbell_chart(dots, "CER", gate), says, table
    )


def _reported_counts(content: Mapping[str, Any], *path: str) -> dict[str, ErrorCount]:
    """Return edits and code points by partition from the run's file; empty partitions are left out."""
    counts = {}
    for name, entry in get_object(content, *path).items():
        if not isinstance(entry, dict) or name in ("overall", "total", "all"):
            continue
        edits, chars = get_int(entry, "cer_edits"), get_int(entry, "reference_chars")
        edits = get_int(entry, "edits") if edits is None else edits
        if edits is not None and chars:
            counts[str(name)] = ErrorCount(edits, chars)
    return counts


def _count_mismatches(groups: Mapping[str, Sequence[ErrorCount]], stated: Mapping[str, ErrorCount]) -> list[str]:
    """Return differences between the counts of the run's file and those of its rows."""
    sums = {name: sum(counts, ErrorCount()) for name, counts in groups.items()}
    return [
        f"{BY_PARTITION} says CER {format_rate(count.rate)} of {name}, but the rows give "
        f"{format_rate(sums[name].rate) if name in sums else 'none'}: one of them was changed"
        for name, count in stated.items()
        if sums.get(name) != count
    ]


def _rate_interval(counts: Sequence[ErrorCount]) -> tuple[float, float] | None:
    edits, units = (np.array([[number] for number in numbers], np.int64).reshape(-1, 1) for numbers in (
        [count.edits for count in counts], [count.reference_chars for count in counts],
    ))  # fmt: skip
    return bootstrap.change_intervals(
        edits, units, seed=BootstrapSettings().seed, resamples=BootstrapSettings().resamples
    )[0]


def _rate_section(total: ErrorCounts) -> PageSection:
    names = dict(zip(total.rates(), sections.UNITS, strict=True))
    lines = [[names[key], format_rate(value)] for key, value in total.rates().items()]
    return PageSection("rates", "Error rates", table=PageTable(("", "rate"), lines))

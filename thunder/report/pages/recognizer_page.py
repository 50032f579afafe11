"""What the test rows of a recogniser's run show: one text for each reference, and its errors by partition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from thunder.evaluation.cases import UNKNOWN, script_of_letters
from thunder.evaluation.metrics.summary import BootstrapSettings, group_order
from thunder.report import charts, sections, text_diff
from thunder.report.charts import Dumbbell
from thunder.report.number_format import rate
from thunder.report.page_model import Line, RowView, Section, Table
from thunder.report.pages.evaluation_page import direction
from thunder.report.pages.page_parts import Tested
from thunder.report.run_files import Folder, number_in, object_in, text_in, whole_in
from thunder.runs.bundles.bundle_checks import BY_PARTITION
from thunder.runs.bundles.scored_rows import PREDICTIONS, REFERENCES
from thunder.statistics import bootstrap
from thunder.text import distance
from thunder.text.distance import ErrorCount, ErrorCounts

IDS = ("feat_id", "row_id", "id")
ROWS_NOTE = "By the partition of each row; the bar is the 95 % bootstrap interval over rows."
CHARACTERS_NOTE = "Each character of the references counts in the partition of the frames that it was heard in."
Row = dict[str, Any]


def tested(folder: Folder, lines: list[Row], results: Mapping[str, Any], gate: float | None) -> Tested:
    """Cards, parts and rows; edits are counted again from the texts."""
    rows = _with_references(folder, lines)
    counts = [distance.count_all_errors(row["asr_text"].strip(), row["reference_text"].strip()) for row in rows]
    total = sum(counts, ErrorCounts())
    said = number_in(object_in(results, "test") or results, "cer")
    if said is not None and total.codepoint.rate is not None and abs(said - total.codepoint.rate) > 1e-9:
        folder.absent.append(f"results.json says cer {rate(said)}, but the rows give {rate(total.codepoint.rate)}")
    views = [_view(row, count, number) for number, (row, count) in enumerate(zip(rows, counts, strict=True))]
    texts = ((row["reference_text"], row["asr_text"], None) for row in rows)
    parts = [*_partitions(folder, rows, counts, gate), _rates(total), *sections.confusions(text_diff.confusions(texts))]
    exact = sum(count.codepoint.edits == 0 for count in counts)
    cards = [
        (rate(total.codepoint.rate), f"CER on {len(rows)} test rows"),
        (rate(total.word.rate), "WER"),
        (f"{exact} of {len(rows)}", "rows without any edit"),
    ]
    return cards, parts, views, []


def _with_references(folder: Folder, lines: list[Row]) -> list[Row]:
    """The rows that have both texts; references may stand in a file of their own, under the same id."""
    apart: dict[str | None, str | None] = {}
    if any("reference_text" not in row for row in lines):
        for row in folder.lines(REFERENCES, "rows without a reference are left out"):
            apart[text_in(row, *IDS)] = text_in(row, "reference_text", "reference", "text")
    found = []
    for row in lines:
        reference = text_in(row, "reference_text") or apart.get(text_in(row, *IDS))
        asr_text = text_in(row, "asr_text", "prediction", "hypothesis")
        if reference is not None and asr_text is not None:
            found.append(row | {"reference_text": reference, "asr_text": asr_text})
    if len(found) < len(lines):
        folder.absent.append(f"{PREDICTIONS}: {len(lines) - len(found)} of {len(lines)} rows lack a text: left out")
    return found


def _view(row: Row, count: ErrorCounts, number: int) -> RowView:
    reference, edits = row["reference_text"], count.codepoint.edits
    script = text_in(row, "script") or script_of_letters(reference)
    return RowView(
        row_id=text_in(row, *IDS) or f"row {number + 1}",
        place=number,
        lines=[
            Line("reference", text_diff.plain(reference)),
            Line("recognised", text_diff.marked(row["asr_text"], reference)),
        ],
        outcome="with errors" if edits else "exact",
        partition=text_in(row, "partition") or UNKNOWN,
        script=script,
        before=edits,
        units=count.codepoint.reference_chars,
        rtl=direction(script),
    )


def _partitions(
    folder: Folder, rows: Sequence[Row], counts: Sequence[ErrorCounts], gate: float | None
) -> list[Section]:
    """CER by the partition of each row, and by that of each character, which only the run's own file knows."""
    content = folder.json(BY_PARTITION, "no CER by the partition of each character")
    groups: dict[str, list[ErrorCount]] = {}
    for row, count in zip(rows, counts, strict=True):
        groups.setdefault(text_in(row, "partition") or UNKNOWN, []).append(count.codepoint)
    names = sorted(groups, key=group_order)
    folder.absent += _disagreements(groups, _stated(content, "partitions") or _stated(content))
    lines = [_Group(f"{name} ({len(groups[name])} rows)", sum(groups[name], ErrorCount()), _interval(groups[name]))
             for name in names]  # fmt: skip
    found = [_section("partition", "CER by partition", lines, [ROWS_NOTE], gate)] if lines else []
    characters = _stated(content, "characters")
    if characters:
        lines = [_Group(name, characters[name], None) for name in sorted(characters, key=group_order)]
        notes = [f"{CHARACTERS_NOTE} Alignment: {content.get('alignment', 'not said')}."]
        found.append(_section("characters", "CER by the partition of each character", lines, notes, gate))
    return found


class _Group(NamedTuple):
    """A line of a picture: edits in code points, with a 95 % interval of the rate where there can be one."""

    name: str
    count: ErrorCount
    bounds: tuple[float, float] | None


def _section(name: str, title: str, groups: Sequence[_Group], notes: list[str], gate: float | None) -> Section:
    dots = [Dumbbell(each.name, None, each.count.rate, *(each.bounds or (None, None))) for each in groups]
    lines = [
        [each.name, str(each.count.reference_chars), str(each.count.edits), rate(each.count.rate),
         f"{each.bounds[0]:.4f} to {each.bounds[1]:.4f}" if each.bounds else "–"]
        for each in groups
    ]  # fmt: skip
    says = f"{title}: " + "; ".join(f"{each.name} {rate(each.count.rate)}" for each in groups)
    table = Table(("", "code points", "edits", "CER", "95 %"), lines)
    return Section(name, title, [*notes, *sections.gate_note(gate)], charts.dumbbells(dots, "CER", gate), says, table)


def _stated(content: Mapping[str, Any], *path: str) -> dict[str, ErrorCount]:
    """Edits and code points by partition, as the run's file has them; partitions that nothing is of are left out."""
    found = {}
    for name, said in object_in(content, *path).items():
        if not isinstance(said, dict) or name in ("overall", "total", "all"):
            continue
        edits, chars = whole_in(said, "cer_edits"), whole_in(said, "reference_chars")
        edits = whole_in(said, "edits") if edits is None else edits
        if edits is not None and chars:
            found[str(name)] = ErrorCount(edits, chars)
    return found


def _disagreements(groups: Mapping[str, Sequence[ErrorCount]], stated: Mapping[str, ErrorCount]) -> list[str]:
    """Where the run's file counts otherwise than its rows."""
    sums = {name: sum(counts, ErrorCount()) for name, counts in groups.items()}
    return [
        f"{BY_PARTITION} says CER {rate(count.rate)} of {name}, but the rows give "
        f"{rate(sums[name].rate) if name in sums else 'none'}: one of them was changed"
        for name, count in stated.items()
        if sums.get(name) != count
    ]


def _interval(counts: Sequence[ErrorCount]) -> tuple[float, float] | None:
    edits, units = (np.array([[number] for number in numbers], np.int64).reshape(-1, 1) for numbers in (
        [count.edits for count in counts], [count.reference_chars for count in counts],
    ))  # fmt: skip
    return bootstrap.change_intervals(
        edits, units, seed=BootstrapSettings().seed, resamples=BootstrapSettings().resamples
    )[0]


def _rates(total: ErrorCounts) -> Section:
    names = dict(zip(total.rates(), sections.UNITS, strict=True))
    lines = [[names[key], rate(value)] for key, value in total.rates().items()]
    return Section("rates", "Error rates", table=Table(("", "rate"), lines))

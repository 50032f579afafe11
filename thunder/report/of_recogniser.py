"""What the test rows of a recogniser's run show: one text for each reference, and its errors by partition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thunder.evaluation import bootstrap
from thunder.evaluation.cases import PARTITIONS, script_of
from thunder.evaluation.summary import Drawing
from thunder.report import charts, marks, sections
from thunder.report.charts import Dumbbell
from thunder.report.figures import rate
from thunder.report.of_evaluation import direction
from thunder.report.page import Line, RowView, Section, Table
from thunder.report.reading import Folder, number_in, text_in, whole_in
from thunder.runs.bundle_checks import BY_PARTITION
from thunder.runs.scored_rows import PREDICTIONS, REFERENCES
from thunder.text import distance
from thunder.text.distance import ErrorCount, ErrorCounts

if TYPE_CHECKING:
    from thunder.report.of_run import Tested

IDS = ("feat_id", "row_id", "id")
NOTE = (
    "Partitions come from {source}. The bar is the 95 % bootstrap interval over rows, where the rows are of one "
    "partition each."
)
Row = dict[str, Any]


def tested(folder: Folder, lines: list[Row], results: Mapping[str, Any], gate: float | None) -> Tested:
    """Cards, parts and rows; edits are counted again from the texts."""
    rows = _with_references(folder, lines)
    counts = [distance.count_all(row["asr_text"].strip(), row["reference_text"].strip()) for row in rows]
    total = sum(counts, ErrorCounts())
    said = number_in(results, "cer")
    if said is not None and total.codepoint.rate is not None and abs(said - total.codepoint.rate) > 1e-9:
        folder.absent.append(f"results.json says cer {rate(said)}, but the rows give {rate(total.codepoint.rate)}")
    views = [_view(row, count, place) for place, (row, count) in enumerate(zip(rows, counts, strict=True))]
    texts = ((row["reference_text"], row["asr_text"], None) for row in rows)
    parts = [*_partitions(folder, rows, counts, gate), _rates(total), *sections.confusions(marks.confusions(texts))]
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


def _view(row: Row, count: ErrorCounts, place: int) -> RowView:
    reference, edits = row["reference_text"], count.codepoint.edits
    script = text_in(row, "script") or script_of(reference)
    return RowView(
        row_id=text_in(row, *IDS) or f"row {place + 1}",
        place=place,
        lines=[
            Line("reference", marks.plain(reference)),
            Line("recognised", marks.marked(row["asr_text"], reference)),
        ],
        outcome="with errors" if edits else "exact",
        partition=text_in(row, "partition") or "unknown",
        script=script,
        before=edits,
        units=count.codepoint.reference_chars,
        rtl=direction(script),
    )


def _partitions(
    folder: Folder, rows: Sequence[Row], counts: Sequence[ErrorCounts], gate: float | None
) -> list[Section]:
    """CER by partition: as the run's own file has it, which may go by frames, else by each row's partition."""
    stated = _stated(folder.json(BY_PARTITION, "partitions are taken from the rows"))
    names = sorted(
        {text_in(row, "partition") or "unknown" for row in rows},
        key=lambda name: (PARTITIONS.index(name) if name in PARTITIONS else len(PARTITIONS), name),
    )
    dots, lines = [], []
    for name in stated or names:
        mine = [c.codepoint for row, c in zip(rows, counts, strict=True) if (row.get("partition") or "unknown") == name]
        of_rows = sum(mine, ErrorCount())
        count = stated.get(name, of_rows)
        bounds = _interval(mine) if count == of_rows else None
        dots.append(Dumbbell(f"{name} ({len(mine)} rows)", None, count.rate, *(bounds or (None, None))))
        shown = f"{bounds[0]:.4f} to {bounds[1]:.4f}" if bounds else "–"
        lines.append([name, str(len(mine)), str(count.reference_chars), str(count.edits), rate(count.rate), shown])
    source = BY_PARTITION if stated else "the rows"
    says = "CER by partition: " + "; ".join(f"{line[0]} {line[4]}" for line in lines)
    table = Table(("", "rows", "code points", "edits", "CER", "95 %"), lines)
    notes = [NOTE.format(source=source), *sections.gate_note(gate)]
    return [Section("partition", "CER by partition", notes, charts.dumbbells(dots, "CER", gate), says, table)]


def _stated(content: Mapping[str, Any]) -> dict[str, ErrorCount]:
    """Edits and code points by partition, as the run's file has them."""
    inner = content.get("partitions")
    found = {}
    for name, said in (inner if isinstance(inner, dict) else content).items():
        if not isinstance(said, dict) or name in ("overall", "total", "all"):
            continue
        edits, chars = whole_in(said, "cer_edits"), whole_in(said, "reference_chars")
        edits = whole_in(said, "edits") if edits is None else edits
        if edits is not None and chars is not None:
            found[str(name)] = ErrorCount(edits, chars)
    return found


def _interval(counts: Sequence[ErrorCount]) -> tuple[float, float] | None:
    edits, units = (np.array([[number] for number in numbers], np.int64).reshape(-1, 1) for numbers in (
        [count.edits for count in counts], [count.reference_chars for count in counts],
    ))  # fmt: skip
    return bootstrap.change_intervals(edits, units, seed=Drawing().seed, resamples=Drawing().resamples)[0]


def _rates(total: ErrorCounts) -> Section:
    names = dict(zip(total.rates(), sections.UNITS, strict=True))
    lines = [[names[key], rate(value)] for key, value in total.rates().items()]
    return Section("rates", "Error rates", table=Table(("", "rate"), lines))

"""Render tables as Markdown, CSV and LaTeX, and numbers in prose; each line knows its cells."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from thunder.errors import ConfigError, combined_error
from thunder.runs.tables.build_tables import BuiltTable, TableCell, TableLine
from thunder.runs.tables.table_spec import value_fault

GENERATED_MARK = "made by `thunder tables build`; change the runs or the spec, not this file"
UNITS = "Rates in per cent, counted again from rows; ± is the standard deviation over the runs."
_PLACE = re.compile(r"\{\{\s*([^{}:]+?)\s*:\s*([^{}]+?)\s*\}\}")
_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
_TEX |= {sign: "\\" + sign for sign in "&%$#_{}"}


@dataclass(frozen=True)
class TextLine:
    """A line of a file. keys: of its cells, in order; between: the separator of its fields."""

    text: str
    keys: tuple[str, ...] = ()
    between: str = ""


def text_of(lines: Iterable[TextLine]) -> str:
    """Return a file's content."""
    return "".join(f"{line.text}\n" for line in lines)


def generated_blocks(table: BuiltTable) -> list[tuple[str, Sequence[TableLine]]]:
    """Return the parts of a table with their headings; the second only where some row is not comparable."""
    not_comparable = [(f"Not comparable with {table.baseline}", table.others)] if table.others else []
    return [("", table.comparable), *not_comparable]


def table_markdown(table: BuiltTable) -> list[TextLine]:
    """Render for people and for web pages."""
    lines = [TextLine(f"<!-- {GENERATED_MARK} -->")]
    lines += [TextLine(""), TextLine(f"**{table.spec.title}**")] if table.spec.title else []
    for heading, rows in generated_blocks(table):
        lines += [TextLine(""), TextLine(f"{heading}:")] if heading else []
        lines += [TextLine(""), TextLine("| | " + " | ".join(table.spec.columns) + " |")]
        lines.append(TextLine("|---|" + "---:|" * len(table.spec.columns)))
        for row in rows:
            marks = "".join(f" [{number}]" for number in row.notes)
            lines.append(_fields(row, [row.name + marks, *(cell.text for cell in row.cells)], " | ", "| ", " |"))
    lines += [TextLine(""), TextLine(UNITS)]
    lines += [TextLine("")] if table.notes else []
    lines += [TextLine(f"{number}. {note}") for number, note in enumerate(table.notes, start=1)]
    return lines


def _fields(row: TableLine, fields: Sequence[str], between: str, begin: str = "", end: str = "") -> TextLine:
    return TextLine(begin + between.join(fields) + end, tuple(cell.key for cell in row.cells), between)


def table_csv(table: BuiltTable) -> list[TextLine]:
    """Render for programs: shares and counts, not per cent; each with its deviation, empty for a single run."""
    columns = [part for column in table.spec.columns for part in (column, f"{column} sd")]
    lines = [TextLine(_csv(["row", "comparable", *columns]))]
    for comparable, rows in (("yes", table.comparable), ("no", table.others)):
        for row in rows:
            numbers = [number for cell in row.cells for number in (cell.value, cell.deviation)]
            fields = [row.name, comparable, *("" if number is None else f"{number:.8f}" for number in numbers)]
            keys = tuple(cell.key for cell in row.cells for _ in range(2))
            lines.append(TextLine(_csv(fields), keys, ","))
    return lines


def _csv(fields: Sequence[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow(fields)
    return stream.getvalue()


def table_latex(table: BuiltTable) -> list[TextLine]:
    """Render for papers: a tabular with booktabs' rules."""
    width = len(table.spec.columns) + 1
    lines = [
        TextLine(f"% {GENERATED_MARK}"),
        TextLine(rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}"),
        TextLine(r"\toprule"),
    ]
    lines.append(TextLine(" & ".join(["", *map(escape_latex, table.spec.columns)]) + r" \\"))
    for heading, rows in generated_blocks(table):
        lines.append(TextLine(r"\midrule"))
        lines += [TextLine(rf"\multicolumn{{{width}}}{{l}}{{\emph{{{escape_latex(heading)}}}}} \\")] if heading else []
        for row in rows:
            marks = "".join(rf"\textsuperscript{{{number}}}" for number in row.notes)
            fields = [escape_latex(row.name) + marks, *(escape_latex(cell.text) for cell in row.cells)]
            lines.append(_fields(row, fields, " & ", end=r" \\"))
    lines += [
        TextLine(r"\bottomrule"),
        TextLine(r"\end{tabular}"),
        TextLine(rf"\par\footnotesize {escape_latex(UNITS)}"),
    ]
    for number, note in enumerate(table.notes, start=1):
        lines.append(TextLine(rf"\par\footnotesize\textsuperscript{{{number}}} {escape_latex(note)}"))
    return lines


def escape_latex(text: str) -> str:
    """Escape text so that LaTeX prints it unchanged."""
    return "".join(_TEX.get(sign, sign) for sign in text)


FORMS: dict[str, Callable[[BuiltTable], list[TextLine]]] = {"md": table_markdown, "csv": table_csv, "tex": table_latex}


def fill_prose(
    text: str, name: str, number: Callable[[str, str], TableCell | None]
) -> tuple[list[TextLine], list[TableCell]]:
    """Return a text with its numbers filled in, and their cells.

    number: (metric, row) -> cell, None where there is no such row.
    Raises ConfigError that lists every place with an unknown metric or row.
    """
    cells: list[TableCell] = []
    faults: list[str] = []
    lines = []
    for at, line in enumerate(text.splitlines(), start=1):
        keys: list[str] = []

        def put(place: re.Match[str], at: int = at, keys: list[str] = keys) -> str:
            metric, row = place[1], place[2]
            cell = None if value_fault(metric) else number(metric, row)
            if cell is None:
                faults.append(f"{name}:{at}: {place[0]}: {value_fault(metric) or f'no runs are named {row!r}'}")
                return place[0]
            cells.append(cell)
            keys.append(cell.key)
            return cell.text

        filled = _PLACE.sub(put, line)
        lines.append(TextLine(filled, tuple(keys)))
    if faults:
        raise combined_error(ConfigError, f"{name} cannot be filled in:", faults, fix="correct these")
    return lines, cells

"""Read the rows of a file as objects, one by one: JSONL, a JSON array, CSV, TSV or Parquet, also compressed."""

from __future__ import annotations

import csv
import importlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thunder.corpora.rows.field_mapping import NO_MAPPING, FieldMapping
from thunder.corpora.rows.jsonl_lines import (
    BYTE_ORDER_MARK,
    LONGEST_LINE,
    JsonLines,
    LineFault,
    LineFaults,
    check_sound,
    json_object,
    json_value,
    kind_of_value,
    sound_object,
)
from thunder.corpora.rows.row_stream import PARQUET, PARQUET_PACKAGE, Progress, RowStream, install_command, open_rows
from thunder.errors import CorpusError
from thunder.text.row_fields import PREDICTION_FIELDS, use_text_ids
from thunder.units import format_path

ARRAY_START = re.compile(rb"(\xef\xbb\xbf)?\s*\[\s*(\{|\]\s*$)")
TABLES = (".csv", ".tsv")
# lines that are kept to name the kind of a file that has no row
LINES_KEPT = 3


class RowRecords:
    """The rows of a file with their numbers: the line, or the place in an array or table, from 1.

    Ids are texts (see `use_text_ids`), and fields have the names that `mapping` gives them. A row that cannot be read
    is a fault. Iterating raises CorpusError where the file cannot be read, or is of another kind altogether. Digest,
    size and notes (see JsonLines) are known after the iteration; `form` names how the file was read.

    sound: rows must be whole characters and finite numbers, so that they can be written as JSON again.
    """

    def __init__(
        self,
        path: Path,
        faults: LineFaults,
        progress: Progress | None = None,
        mapping: FieldMapping = NO_MAPPING,
        sound: bool = False,
    ) -> None:
        self.path, self.faults, self.progress = path, faults, progress
        self.mapping, self.sound = mapping, sound
        self.sha256, self.bytes, self.form = "", 0, "JSONL"
        self.notes: Counter[str] = Counter()

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, fields in self._objects():
            try:
                fields = self.mapping.apply(fields)
                use_text_ids(fields)
            except ValueError as error:
                self.faults.add_line(self.path, number, LineFault(str(error)))
            except LineFault as fault:
                self.faults.add_line(self.path, number, fault)
            else:
                yield number, fields

    def _objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with open_rows(self.path, self.progress) as opened:
            if opened.head.startswith(PARQUET):
                self.form = "Parquet"
                yield from self._table(opened)
            elif ARRAY_START.match(opened.head):
                self.form = "JSON array"
                yield from self._array(opened)
            elif opened.kind in TABLES and not opened.head.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"{"):
                self.form = opened.kind[1:].upper()
                yield from self._cells(opened)
            else:
                yield from self._lines(opened)
                return
            self.sha256, self.bytes = opened.finish(), opened.bytes

    def _lines(self, opened: RowStream) -> Iterator[tuple[int, dict[str, Any]]]:
        lines = JsonLines(self.path, self.faults)
        objects, first = 0, []
        for number, line in lines.read(opened):
            first += [line] if len(first) < LINES_KEPT else []
            try:
                fields = sound_object(line) if self.sound else json_object(line)
            except LineFault as fault:
                self.faults.add_line(self.path, number, fault)
            else:
                objects += 1
                yield number, fields
        self.sha256, self.bytes, self.notes = lines.sha256, lines.bytes, lines.notes
        if not objects:
            refuse_other_text(self.path, first)

    def _array(self, opened: RowStream) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            values = json_value(opened.stream.read().removeprefix(BYTE_ORDER_MARK))
        except LineFault as fault:
            raise CorpusError(f"{self.path}: a JSON array: {fault}", fix=fault.fix or "correct the array") from None
        for number, fields in enumerate(values, start=1):
            if not isinstance(fields, dict):
                fault = LineFault(f"expected an object in the array, found {kind_of_value(fields)}")
                self.faults.add_line(self.path, number, fault)
            elif self._is_sound(number, fields):
                yield number, fields

    def _is_sound(self, number: int, fields: dict[str, Any]) -> bool:
        try:
            if self.sound:
                check_sound(fields)
        except LineFault as fault:
            self.faults.add_line(self.path, number, fault)
            return False
        return True

    def _cells(self, opened: RowStream) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the rows under a header. A cell is a text; an empty one is as if it were not there, but for texts."""
        text = io.TextIOWrapper(opened.stream, encoding="utf-8-sig", newline="")
        csv.field_size_limit(LONGEST_LINE)
        # spreadsheets of some languages write semicolons; tab-separated files quote nothing
        first = opened.head.partition(b"\n")[0]
        delimiter = "\t" if opened.kind == ".tsv" else max(",;\t", key=lambda sign: first.count(sign.encode()))
        rows = csv.reader(text, delimiter=delimiter, quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL)
        number = 1
        try:
            header = next(rows, [])
            self._check_header(header)
            for cells in rows:
                number += 1
                if not cells:
                    self.notes["blank lines"] += 1
                elif len(cells) != len(header):
                    fault = LineFault(f"has {len(cells)} cells, but the header has {len(header)}")
                    self.faults.add_line(self.path, number, fault)
                elif (fields := self._row_of_cells(number, dict(zip(header, cells, strict=True)))) is not None:
                    yield number, fields
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"{self.path}: byte {error.start} of a block is not UTF-8", fix="save the table as CSV UTF-8"
            ) from None
        except csv.Error as error:
            raise CorpusError(f"{self.path}: row {number + 1}: {error}", fix="export the table again") from None

    def _check_header(self, header: list[str]) -> None:
        repeated = [name for name, times in Counter(header).items() if times > 1]
        if repeated:
            raise CorpusError(f"{self.path}: two columns are named {repeated[0]!r}", fix="rename one of them")

    def _row_of_cells(self, number: int, cells: dict[str, str]) -> dict[str, Any] | None:
        """A row whose cells have the types that a correction row's fields have; None for a fault."""
        fields: dict[str, Any] = dict(cells)
        for name in cells.keys() & PREDICTION_FIELDS.keys():
            kinds, cell = PREDICTION_FIELDS[name], cells[name]
            try:
                if not cell and type(None) in kinds:
                    fields[name] = None
                elif str not in kinds:
                    fields[name] = json.loads(cell)
            except ValueError:
                self.faults.add_line(self.path, number, LineFault(f"'{name}' is {cell!r}, not a number or an object"))
                return None
        return fields

    def _table(self, opened: RowStream) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            parquet = importlib.import_module("pyarrow.parquet")
        except ImportError:
            name = format_path(self.path)
            raise CorpusError(
                f"{self.path}: is Parquet, which is read only with the package {PARQUET_PACKAGE}",
                fix=f"{install_command(PARQUET_PACKAGE)}, or "
                f"duckdb -c \"copy '{name}' to '{format_path(self.path.with_suffix('.jsonl'))}' (format json)\"",
            ) from None
        number = 0
        try:
            for batch in parquet.ParquetFile(self.path).iter_batches():
                for fields in batch.to_pylist():
                    number += 1
                    if self._is_sound(number, fields):
                        yield number, fields
        except importlib.import_module("pyarrow").ArrowException as error:
            raise CorpusError(f"{self.path}: is damaged or cut off: {error}", fix="copy the file again") from None


def refuse_other_text(path: Path, lines: list[bytes]) -> None:
    """Raise one CorpusError that names the kind of a file without any object, from its first lines, where it shows."""
    if len(lines) < 2:
        return
    texts = [line.decode("utf-8", "replace").strip().removeprefix("\ufeff") for line in lines]
    first = texts[0]
    name, stem = format_path(path), path.with_suffix("")
    if first.startswith(("{", "[")):
        if first in ("{", "[", "[{") or first.endswith((",", "{", "[")):
            raise CorpusError(
                f"{path}: is JSON over several lines, not one object a line",
                fix=f"jq -c . {name} > {format_path(path.with_name(f'{path.stem}-lines{path.suffix}'))}",
            )
        return
    try:
        json.loads(first)
        return
    except ValueError:
        pass
    for suffix, delimiter, kind in ((".tsv", "\t", "tab-separated text (TSV)"), (".csv", ",", "CSV")):
        if delimiter in first and all(delimiter in text for text in texts):
            columns = ", ".join(first.split(delimiter))
            new = format_path(Path(f"{stem}{suffix}"))
            raise CorpusError(f"{path}: is {kind} with the columns {columns}, not JSONL", fix=f"mv {name} {new}")
    raise CorpusError(
        f"{path}: is plain text, not JSONL; its first line is {first[:60]!r}",
        fix='one JSON object a line, such as {"hyp": "recognized", "ref": "correct"}, or a CSV file with a header',
    )

"""Rows of one manifest file: JSON lines (also gzip), a JSON array, CSV or TSV; lhotse's cuts are taken apart."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thunder.acoustic.manifests.lhotse_cuts import is_cut, rows_of_cut
from thunder.corpora.rows.jsonl_lines import JsonLines, LineFault, LineFaults, kind_of_value, sound_object
from thunder.errors import CorpusError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
_UNREADABLE = {
    ".parquet": "`python -c \"import datasets; datasets.load_dataset('parquet', data_files='OLD')['train']"
    ".to_json('rows.jsonl')\"` writes rows (save the sounds as files first)",
    ".arrow": "save the data set as an audio folder with metadata.jsonl",
    ".yaml": "lhotse: `lhotse copy cuts.yaml cuts.jsonl` writes JSON lines",
    ".xlsx": "save the table as CSV (UTF-8)",
}


def read_manifest(path: Path, faults: LineFaults) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, fields) of each row; a line that is none becomes a fault.

    Raises CorpusError that names the format where the file has one that is not read.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    name = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else (suffixes or [""])[-1]
    if name in _UNREADABLE:
        raise CorpusError(f"{path}: is {name[1:]}, which is not read as a manifest", _UNREADABLE[name])
    rows = _table_rows(path, DELIMITERS[name]) if name in DELIMITERS else _json_rows(path, faults)
    for where, fields in rows:
        if isinstance(fields, LineFault):
            faults.add(f"{where}: {fields}")
        elif not is_cut(fields):
            yield where, fields
        else:
            try:
                cut_rows = rows_of_cut(fields)
            except LineFault as fault:
                faults.add(f"{where}: {fault}")
            else:
                yield from ((where, row) for row in cut_rows)


def _json_rows(path: Path, faults: LineFaults) -> Iterator[tuple[str, dict[str, Any] | LineFault]]:
    if array := _json_array(path):
        for number, fields in enumerate(array, 1):
            where = f"{path}: row {number}"
            yield where, fields if isinstance(fields, dict) else LineFault(f"is {kind_of_value(fields)}, not an object")
        return
    for number, line in _gzip_lines(path) if path.suffix.lower() == ".gz" else JsonLines(path, faults):
        try:
            yield f"{path}:{number}", sound_object(line)
        except LineFault as fault:
            yield f"{path}:{number}", fault


def _json_array(path: Path) -> list[Any] | None:
    """The rows of a file that is one JSON array; None for any other."""
    if path.suffix.lower() == ".gz" or not path.is_file():
        return None
    with path.open("rb") as stream:
        if not stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
            return None
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise CorpusError(f"{path}: is a damaged JSON array: {error}", "write one JSON object a line") from None


def _gzip_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with gzip.open(path, "rb") as stream:
            yield from ((number, line) for number, line in enumerate(stream, 1) if line.strip())
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{path}: cannot be read: {error}", "copy it again") from None


def _table_rows(path: Path, delimiter: str) -> Iterator[tuple[str, dict[str, Any] | LineFault]]:
    """Rows of CSV or TSV with a header; empty cells are absent fields. TSV has no quoting, as in Common Voice."""
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=delimiter, quoting=quoting)
            header = next(reader, [])
            if len(set(header)) < len(header):
                raise CorpusError(f"{path}: its header names a column twice: {', '.join(header)}", "rename one")
            for cells in filter(None, reader):
                where = f"{path}:{reader.line_num}"
                if len(cells) != len(header):
                    yield where, LineFault(f"has {len(cells)} cells, the header has {len(header)}")
                else:
                    yield where, {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror or error}", "give the path of a manifest") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path}: is not a table in UTF-8: {error}", "save it as UTF-8") from None

"""Write the files of tables with a lock file that records each cell's origin, and check them against it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.errors import ConfigError, GateError, combined_error
from thunder.runs.tables import build_tables, render_tables
from thunder.runs.tables.build_tables import RunEvidence, TableCell
from thunder.runs.tables.render_tables import TextLine
from thunder.runs.tables.table_spec import TablesSpec, read_table_spec

LOCK = "tables.lock.json"
SCHEMA = "thunder.tables.lock/1"
PROSE = "prose"  # replaces a table's name in the keys of cells that are used in texts


@dataclass(frozen=True)
class BuiltFiles:
    """The result of a spec: the lines of each file, by path relative to the spec's folder, and the lock."""

    files: Mapping[str, Sequence[TextLine]]
    lock: Mapping[str, Any]


def build_table_files(path: Path, find: Callable[[str], Path]) -> list[Path]:
    """Write every table and text of a spec, and the lock last; return the files.

    Raises GateError where a run is missing, not sealed or not intact; ConfigError where the spec cannot be used.
    """
    spec = read_table_spec(path)
    evidence, refused = build_tables.gather_evidence(spec, find)
    if refused:
        raise combined_error(
            GateError,
            "these runs are not valid evidence:",
            _named(refused),
            fix="thunder bundle seal RUN, or run it",
        )
    built = render_files(path, spec, evidence)
    written = []
    for name, lines in built.files.items():
        target = path.parent / name
        target.parent.mkdir(parents=True, exist_ok=True)
        digest.write_atomically(target, render_tables.text_of(lines))
        written.append(target)
    lock = path.parent / spec.out / LOCK
    digest.write_json(lock, dict(built.lock))
    return [*written, lock]


def _named(refused: Mapping[str, str]) -> list[str]:
    return [f"{name}: {why}" for name, why in refused.items()]


def render_files(path: Path, spec: TablesSpec, evidence: Mapping[str, RunEvidence]) -> BuiltFiles:
    """Render every file of a spec in memory. Raises as `build_table_files`."""
    tables = build_tables.build_table(spec, evidence)
    files: dict[str, Sequence[TextLine]] = {}
    cells = [cell for table in tables for line in (*table.comparable, *table.others) for cell in line.cells]
    for table in tables:
        for ending, form in render_tables.FORMS.items():
            files[(Path(spec.out) / f"{table.spec.name}.{ending}").as_posix()] = form(table)

    def number(metric: str, row: str) -> TableCell | None:
        if row not in spec.runs:
            return None
        number_cell = build_tables.compute_cell(
            spec, [evidence[name] for name in spec.runs[row]], metric, f"{PROSE}/{row}/{metric}"
        )
        return TableCell(
            number_cell.key,
            number_cell.text.partition(" ")[0],
            number_cell.value,
            None,
            number_cell.expression,
            number_cell.runs,
        )

    for each in spec.prose:
        files[each.target], used = render_tables.fill_prose(_text(path.parent / each.source), each.source, number)
        cells += used
    return BuiltFiles(files, _lock(path, files, cells))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}", fix="name a text file in the spec's `prose`") from None


def _lock(path: Path, files: Mapping[str, Sequence[TextLine]], cells: Sequence[TableCell]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "spec_sha256": digest.sha256_file(path),
        "files": {name: digest.sha256_bytes(render_tables.text_of(lines).encode()) for name, lines in files.items()},
        "cells": {
            cell.key: {"text": cell.text, "expression": cell.expression, "runs": dict(cell.runs)} for cell in cells
        },
    }


def check_table_files(path: Path, find: Callable[[str], Path]) -> int:
    """Render everything in memory and compare it with the lock and the files; return how many cells match.

    Raises GateError naming each cell that was changed by hand, whose runs have changed, or whose run is missing.
    """
    spec = read_table_spec(path)
    lock = _read_lock(path.parent / spec.out / LOCK, path)
    evidence, refused = build_tables.gather_evidence(spec, find)
    faults = [*_changed_runs(lock, evidence, refused)]
    if not refused:
        built = render_files(path, spec, evidence)
        faults += _stale_cells(lock["cells"], built.lock["cells"])
        if not faults and lock["spec_sha256"] != built.lock["spec_sha256"]:
            faults.append(f"{path.name}: changed since the tables were made")
        for name, lines in built.files.items():
            faults += _manual_edits(path.parent / name, name, lines)
    if faults:
        faults = list(dict.fromkeys(faults))
        raise combined_error(
            GateError, "the tables do not match their runs:", faults, fix=f"thunder tables build {path}"
        )
    return len(lock["cells"])


def _read_lock(place: Path, path: Path) -> dict[str, Any]:
    try:
        lock = json.loads(place.read_text(encoding="utf-8"))
        if lock["schema"] != SCHEMA or not isinstance(lock["cells"], dict) or "spec_sha256" not in lock:
            raise ValueError("not a lock file of `thunder tables build`")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise GateError(f"{place}: {error}", fix=f"thunder tables build {path}") from None
    return lock


def _changed_runs(
    lock: Mapping[str, Any], evidence: Mapping[str, RunEvidence], refused: Mapping[str, str]
) -> Iterator[str]:
    """List cells whose runs are no longer usable, or have changed."""
    now = {each.name: each.sha256 for each in evidence.values()}
    for key, cell in lock["cells"].items():
        for run, sha256 in cell["runs"].items():
            if run in refused:
                yield f"{key}: {run}: {refused[run]}"
            elif run in now and now[run] != sha256:
                yield f"{key}: {run} changed since the tables were made (manifest {sha256[:12]}, now {now[run][:12]})"
    unnamed = refused.keys() - {run for cell in lock["cells"].values() for run in cell["runs"]}
    yield from (f"{run}: {refused[run]}" for run in sorted(unnamed))


def _stale_cells(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """List cells that were added or removed, or whose number differs from the lock."""
    for key in sorted(then.keys() | now.keys()):
        if key not in then or key not in now:
            yield f"{key}: {'is new' if key not in then else 'is gone'} since the tables were made"
        elif then[key] != now[key]:
            reason = f"was {then[key]['text']}" if then[key]["text"] != now[key]["text"] else "its runs changed"
            yield f"{key}: stale: {reason}, is {now[key]['text']}"


def _manual_edits(path: Path, name: str, lines: Sequence[TextLine]) -> Iterator[str]:
    """List where a file differs from the rendered one, by its cells."""
    try:
        content = path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        yield f"{name}: {error.strerror}"
        return
    if content == render_tables.text_of(lines):
        return
    written_lines = content.split("\n")
    if written_lines.pop() != "":
        yield f"{name}: does not end with a newline"
    for at, (line, written) in enumerate(zip_longest(lines, written_lines), start=1):
        if line is None or written is None:
            yield f"{name}:{at}: {'an extra line' if line is None else 'missing: ' + line.text[:80]!r}"
        elif line.text != written:
            yield from _line_edits(f"{name}:{at}", line, written)


def _line_edits(where: str, line: TextLine, written: str) -> Iterator[str]:
    """Return what differs in one line: its cells where they can be separated, else the line."""
    expected, actual = (text.split(line.between) if line.between else [text] for text in (line.text, written))
    if not line.keys:
        yield f"{where}: changed by hand: {written[:80]!r}"
    elif len(expected) == len(actual) and line.between:
        # the fields before the cells are the row's name and marks
        names = ["" for _ in range(len(expected) - len(line.keys))] + list(line.keys)
        for key, old, new in zip(names, expected, actual, strict=True):
            if old != new:
                row = line.keys[0].rpartition("/")[0]
                yield f"{where}: {key or row}: changed by hand: {_bare(old)!r} to {_bare(new)!r}"
    else:
        yield f"{where}: {', '.join(dict.fromkeys(line.keys))}: changed by hand: {written[:80]!r}"


def _bare(field: str) -> str:
    return field.strip(" |\\")

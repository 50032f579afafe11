"""Index all runs of a folder in one SQLite file, so that ten thousand can be listed at once.

The run folders stay authoritative; the file is a cache. Each query updates it. It is rebuilt where it is missing,
damaged or of another version. Where it cannot be written, a copy in memory is used.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from thunder.config import suggest_name
from thunder.errors import ConfigError, UsageError
from thunder.runs.listing.conditions import RunCondition, condition_field
from thunder.runs.records import registry
from thunder.runs.records.option_names import canonical_name, with_canonical_names
from thunder.runs.records.registry import PLAN

INDEX_FILE = ".registry.sqlite"
VERSION = 2
COLUMNS = ("name", "state", "job", "started", "updated", "step", "steps", "loss", "cer", "why", "sealed", "folder")
FRESH_FOR = 2_000_000_000  # nanoseconds; a folder changed later than this can change again with the same time stamp
LOCK_TIMEOUT = 5.0  # seconds to wait for another process that reads the same index
_TABLE = f"CREATE TABLE runs (name TEXT PRIMARY KEY, seen INTEGER, {', '.join(COLUMNS[1:])}, options TEXT)"
_PUT = f"INSERT OR REPLACE INTO runs VALUES ({', '.join('?' * (len(COLUMNS) + 2))})"

QueryResult = TypeVar("QueryResult")


def list_runs(
    root: Path,
    conditions: Sequence[RunCondition] = (),
    *,
    sort: str = "started",
    limit: int | None = None,
    only: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Return the runs that meet all conditions, each with its columns and its `options`; newest first.

    only: the options to return, None for an option that a run does not have; by default all that it has.
    sort: a column or an option; -name sorts downwards, and `started` without a sign is newest first.
    Raises UsageError where a condition or `sort` names a column or option that no run has.
    """
    query, arguments = _query(conditions, sort, limit, only)

    def ask(connection: sqlite3.Connection) -> list[dict[str, Any]]:
        _refresh(connection, root)
        rows = connection.execute(query, arguments).fetchall()
        if not rows:
            _refuse_unknown(connection, [*(each.name for each in conditions), condition_field(sort.removeprefix("-"))])
        names = (*COLUMNS, "options")
        options = json.loads if only is None else lambda text: dict(zip(only, json.loads(text), strict=False))
        return [dict(zip(names, (*row[:-1], options(row[-1])), strict=True)) for row in rows]

    return _query_index(root, ask)


def _query(
    conditions: Sequence[RunCondition], sort: str, limit: int | None, only: Sequence[str] | None
) -> tuple[str, list[Any]]:
    """Return the query as SQL, with its values."""
    downwards = sort.startswith("-") or sort == "started"
    order, values = _expression(condition_field(sort.removeprefix("-")))
    # with several paths json_extract returns a JSON array, in which true stays true and not 1; so pass at least two
    json_paths = [*map(_json_path, only or ()), *[_json_path("")] * 2]
    option_columns = "options" if only is None else f"json_extract(options, {', '.join('?' * len(json_paths))})"
    query = f"SELECT {', '.join(COLUMNS)}, {option_columns} FROM runs"
    parts = [_where(condition) for condition in conditions]
    if parts:
        query += " WHERE " + " AND ".join(text for text, _ in parts)
    query += f" ORDER BY ({order}) IS NULL, {order} {'DESC' if downwards else ''}, name DESC LIMIT ?"
    arguments = [
        *(json_paths if only is not None else ()),
        *(value for _, part in parts for value in part),
        *values,
        *values,
        -1 if limit is None else limit,
    ]
    return query, arguments


def rebuild_index(root: Path) -> int:
    """Read every folder again; return the number of runs."""
    _remove(root / INDEX_FILE)
    return len(list_runs(root))


def _query_index(root: Path, ask: Callable[[sqlite3.Connection], QueryResult]) -> QueryResult:
    """Run a query on the index; rebuild a damaged index, and use a copy in memory where the file is unusable."""
    path = root / INDEX_FILE
    for database in (str(path), str(path), ":memory:"):
        try:
            with contextlib.closing(_connect(database)) as connection, connection:
                return ask(connection)
        except sqlite3.OperationalError:  # locked too long, or not writable: the index itself is not damaged
            continue
        except (sqlite3.DatabaseError, ValueError):  # a page, or the JSON in one, is damaged
            _remove(path)
    raise AssertionError("a database in memory cannot fail")


def _remove(path: Path) -> None:
    for ending in ("", "-journal", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + ending).unlink()


def _connect(database: str) -> sqlite3.Connection:
    connection = sqlite3.connect(database, timeout=LOCK_TIMEOUT)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            connection.execute("DROP TABLE IF EXISTS runs")
            connection.execute(_TABLE)
            connection.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def _refresh(connection: sqlite3.Connection, root: Path) -> None:
    """Read the folders that are new or have changed, and delete the entries of folders that are gone.

    Every change of a run renames a file in its folder, which changes the folder's time; a run in progress is always
    read.
    """
    indexed = {name: (seen, state) for name, seen, state in connection.execute("SELECT name, seen, state FROM runs")}
    present, changed, now = set(), [], time.time_ns()
    for name, path, time_stamp in _folders(root):
        seen, state = indexed.get(name, (None, None))
        if seen != time_stamp or state == "running":
            folder = Path(path)
            if not registry.is_run(folder):
                continue
            changed.append((name, time_stamp if now - time_stamp > FRESH_FOR else 0, *_row(folder)))
        present.add(name)
    connection.executemany(_PUT, changed)
    connection.executemany("DELETE FROM runs WHERE name = ?", [(name,) for name in indexed.keys() - present])


def _folders(root: Path) -> Iterator[tuple[str, str, int]]:
    """Return (name, path, time of change in nanoseconds) of each folder that is not a link and not hidden."""
    with contextlib.suppress(FileNotFoundError), os.scandir(root) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                yield entry.name, entry.path, entry.stat(follow_symlinks=False).st_mtime_ns


def _row(folder: Path) -> tuple[Any, ...]:
    """Return the index entry of a run, in the order of COLUMNS without the name."""
    from thunder.runs.bundles import bundle, bundle_checks  # a look at runs that have not changed does without them

    plan = bundle_checks.json_object(folder / PLAN, []) if (folder / PLAN).is_file() else {}
    settings = plan.get("settings")
    try:
        # the plan has the options as JSON, which is parsed many times faster than YAML
        options = settings if isinstance(settings, dict) else bundle_checks.run_options(folder)
    except ConfigError:
        options = {}
    line = asdict(registry.run_line(folder, registry.is_running(folder)))
    line |= {"job": str(plan["job"]) if "job" in plan else None, "sealed": bundle.manifest_digest(folder)}
    text = json.dumps(with_canonical_names(options), ensure_ascii=True, allow_nan=True, default=str)
    return (*(line[column] for column in COLUMNS[1:]), text if "NaN" not in text and "Infinity" not in text else "{}")


def _expression(name: str) -> tuple[str, list[str]]:
    """Return a column or an option as SQL, with the values that it needs."""
    if name in COLUMNS:
        return name, []
    return "json_extract(options, ?)", [_json_path(name)]


def _json_path(option: str) -> str:
    """Return the JSON path of an option among a run's options, as SQLite writes it."""
    return f'$."{canonical_name(option)}"'


def _where(condition: RunCondition) -> tuple[str, list[Any]]:
    expression, values = _expression(condition.name)
    if condition.sign == "~":
        return f"instr(lower({expression}), lower(?)) > 0", [*values, condition.text]
    if condition.sign in ("=", "!="):
        # an option can store a number as text
        inside = f"{expression} IN (?, ?)"
        return (f"NOT {inside}" if condition.sign == "!=" else inside), [*values, condition.value, condition.text]
    return f"({expression} {condition.sign} ? AND typeof({expression}) != 'text')", [
        *values, condition.value, *values
    ]  # fmt: skip


def _refuse_unknown(connection: sqlite3.Connection, names: Sequence[str]) -> None:
    """Raise UsageError for a name that no run has, where there are runs."""
    option_names = {name for name in names if name not in COLUMNS}
    if not option_names or not connection.execute("SELECT 1 FROM runs LIMIT 1").fetchone():
        return
    keys = {key for (key,) in connection.execute("SELECT DISTINCT key FROM runs, json_each(options)")}
    for name in sorted(option_names):
        if canonical_name(name) not in keys:
            known = [*COLUMNS, *sorted(keys)]
            raise UsageError(f"no run has '{name}'.{suggest_name(name, known)}", fix=f"one of: {', '.join(known)}")

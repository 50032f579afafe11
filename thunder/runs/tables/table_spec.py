"""Read the YAML file that specifies which tables to build, from which runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from thunder.config import Settings, SettingsLayer, build_settings, load_yaml, option, suggest_name
from thunder.errors import ConfigError, combined_error
from thunder.runs.bundles.scored_rows import ANSWERS, METRICS
from thunder.text.row_fields import EVERY_PARTITION

SCHEMA = "thunder.tables/1"
_FIX = "correct these; docs/how-to/build-tables.md has an example"
_NAME = re.compile(r"\w[\w.+-]*")  # names that are valid in a cell's key and in a file name
# metrics of a group of rows, the error rates of ANSWERS (only a corrector's rows have them), and the number of runs
KNOWN = (*METRICS, *(f"cer_{name}" for name in ANSWERS), "runs")


class TableSpec(Settings):
    """One table. A cell is the mean over the runs behind its row, each recomputed from its rows."""

    name: str = option(..., "File name of the table, without its ending.")
    title: str = option("", "Title above the table.")
    rows: list[str] = option(..., "Names from `runs`, one for each row.", min_length=1)
    columns: list[str] = option(..., "Metrics; cer@novelty is the CER of one partition.", min_length=1)
    baseline: str | None = option(None, "Row that all other rows are compared with (default: the first).")
    allow: list[str] = option([], "Options that may differ from the baseline's; the seed always may.")


class ProseSpec(Settings):
    """A text that contains {{cer:NAME}}, and the file that it is written to with numbers in their place."""

    source: str = option(..., "Text file with placeholders for numbers.")
    target: str = option(..., "File that is written.")


class TablesSpec(Settings):
    """A whole spec. Paths are relative to its folder."""

    out: str = option(".", "Folder of the tables and of tables.lock.json.")
    digits: int = option(2, "Decimal places of rates, in percent.", ge=0, le=6)
    runs: dict[str, list[str]] = option(..., "Name -> ids of its sealed runs, one for each seed.")
    tables: list[TableSpec] = option(..., "The tables.", min_length=1)
    prose: list[ProseSpec] = option([], "Text files with placeholders to fill in.")


def read_table_spec(path: Path) -> TablesSpec:
    """Read a spec.

    Raises ConfigError that lists everything unusable in it.
    """
    values, faults = load_yaml(path), []
    if values.pop("schema", SCHEMA) != SCHEMA:
        raise ConfigError(f"{path}: its schema is not {SCHEMA}", fix=f"schema: {SCHEMA}")
    for key, kind in (("tables", TableSpec), ("prose", ProseSpec)):
        made = []
        for number, each in enumerate(values.get(key) or [], start=1):
            try:
                made.append(build_settings(kind, [SettingsLayer(f"{path}: {key}[{number}]", _mapping(each))])[0])
            except ConfigError as error:
                faults += [line.strip() for line in error.message.splitlines()[1:]]
        values[key] = made
    if faults:
        raise combined_error(ConfigError, f"{path} cannot be used:", faults, fix=_FIX)
    spec, _ = build_settings(TablesSpec, [SettingsLayer(str(path), values)])
    if faults := _unknown(spec):
        raise combined_error(ConfigError, f"{path} cannot be used:", faults, fix=_FIX)
    return spec


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {str(value): None}


def _unknown(spec: TablesSpec) -> list[str]:
    """List undefined names in a spec, and runs that occur twice behind one row."""
    faults = []
    for name, ids in spec.runs.items():
        if not ids or len(set(ids)) < len(ids):
            faults.append(f"runs: '{name}' {'names no run' if not ids else 'names a run twice'}")
    for table in spec.tables:
        for row in [*table.rows, *([table.baseline] if table.baseline else [])]:
            if row not in spec.runs:
                faults.append(f"table '{table.name}': no runs are named '{row}'.{suggest_name(row, spec.runs)}")
        faults += [f"table '{table.name}': {fault}" for each in table.columns if (fault := value_fault(each))]
        if len(set(table.rows)) < len(table.rows) or len(set(table.columns)) < len(table.columns):
            faults.append(f"table '{table.name}': a row or a column occurs twice")
    names = [table.name for table in spec.tables]
    odd = [name for name in (*spec.runs, *names) if not _NAME.fullmatch(name)]
    faults += [f"{name!r}: a name has letters, digits and . + - _ only" for name in odd]
    faults += [f"two tables are named '{name}'" for name in sorted({each for each in names if names.count(each) > 1})]
    return faults


def value_fault(expression: str) -> str:
    """Return why a metric cannot be used, or an empty string."""
    metric, at, partition = expression.partition("@")
    if metric not in KNOWN:
        return f"no metric is named '{metric}'.{suggest_name(metric, KNOWN)} Known are {', '.join(KNOWN)}"
    if at and partition not in EVERY_PARTITION:
        return f"no partition is named '{partition}'.{suggest_name(partition, EVERY_PARTITION)}"
    return ""

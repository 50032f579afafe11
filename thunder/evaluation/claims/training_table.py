"""Read the logs of a run into one table with a row for each validation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thunder.errors import UsageError
from thunder.runs.bundles import scored_rows
from thunder.runs.compare import run_facts
from thunder.runs.records.registry import PLAN
from thunder.runs.records.run_record import METRICS

EPOCHS_FILE = "epochs.jsonl"  # the format of other programs, a line an epoch
EPOCHS_FORMAT = (
    "{epoch, step, tokens_seen, train_loss_running, train_probe_loss, val_loss, val_se, lr, wall_s, grad_norm}"
)


@dataclass(frozen=True)
class TrainingRow:
    """Training up to one validation. None stands for a value that is not logged.

    epoch: its number in the logs. running: mean training loss since the row before, as training computed it. probe,
    val: loss of fixed training rows and of validation rows, both with the weights of this moment; *_se are their
    standard errors. wraps: passes over the training rows so far. wall: seconds of training since the row before. grad:
    largest gradient norm since the row before.
    """

    epoch: int
    step: int | None = None
    running: float | None = None
    probe: float | None = None
    probe_se: float | None = None
    val: float | None = None
    val_se: float | None = None
    lr: float | None = None
    wall: float | None = None
    grad: float | None = None
    wraps: float | None = None


@dataclass(frozen=True)
class TrainingTable:
    """The rows in order, and the planned number of passes over the training rows (None: unknown).

    before: the measurement before the first update, where there is one.
    """

    rows: Sequence[TrainingRow]
    planned: float | None = None
    before: TrainingRow | None = None


def read_training_table(folder: Path) -> TrainingTable:
    """The table of a run's folder: its epochs.jsonl, or its own metrics.jsonl.

    Raises UsageError where it has neither, or where a line is not JSON.
    """
    if (folder / EPOCHS_FILE).is_file():
        return _table_from_epochs(folder)
    if not (folder / METRICS).is_file():
        raise UsageError(
            f"{folder}: neither {METRICS} nor {EPOCHS_FILE}", fix=f"write a line an epoch: {EPOCHS_FORMAT}"
        )
    return _table_from_metrics(folder)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    faults: list[str] = []
    lines = [entry for _, entry in scored_rows.json_lines(path, faults)]
    if faults:
        raise UsageError(f"{path}: {'; '.join(faults[:5])}", fix="copy the complete file again")
    return lines


def _table_from_epochs(folder: Path) -> TrainingTable:
    """The table of another program's log; `wraps` is the seen tokens over the tokens of the corpus."""
    corpus = _number(_read_object(folder / "corpus.json").get("tokens"))
    lines = _read_lines(folder / EPOCHS_FILE)
    rows = []
    for number, line in enumerate(lines):
        seen = _number(line.get("tokens_seen"))
        rows.append(
            TrainingRow(
                epoch=number if (epoch := run_facts.whole_number(line.get("epoch"))) is None else epoch,
                step=run_facts.whole_number(line.get("step")),
                running=_number(line.get("train_loss_running")),
                probe=_number(line.get("train_probe_loss")),
                probe_se=_number(line.get("train_probe_se")),
                val=_number(line.get("val_loss")),
                val_se=_number(line.get("val_se")),
                lr=_number(line.get("lr")),
                wall=_number(line.get("wall_s")),
                grad=_number(line.get("grad_norm")),
                wraps=seen / corpus if seen is not None and corpus else None,
            )
        )
    return TrainingTable(rows, rows[-1].wraps if rows else None)


def _table_from_metrics(folder: Path) -> TrainingTable:
    """The table of a metrics.jsonl; the reports between two validations make a row."""
    length = _read_object(folder / PLAN).get("length")
    length = length if isinstance(length, dict) else {}
    planned, updates = _number(length.get("epochs")), _number(length.get("updates"))
    rows: list[TrainingRow] = []
    before, reports, started = None, [], None
    for line in _read_lines(folder / METRICS):
        if "valid_loss" not in line:
            reports.append(line)
            continue
        step = run_facts.whole_number(line.get("step")) or 0
        if rows and step <= (rows[-1].step or 0):  # a resumed run logs steps again: the later line counts
            rows = [row for row in rows if (row.step or 0) < step]
        row = _row_from_reports(rows[-1] if rows else None, len(rows), step, line, reports, started)
        wraps = step / updates * planned if planned and updates else None
        row = replace(row, wraps=wraps)
        if step == 0:
            before = row
        else:
            rows.append(row)
        reports, started = [], _number(line.get("time"))
    return TrainingTable(rows, planned, before)


def _row_from_reports(
    last: TrainingRow | None,
    number: int,
    step: int,
    line: Mapping[str, Any],
    reports: list[dict[str, Any]],
    started: float | None,
) -> TrainingRow:
    """A validation with the reports since the one before. started: the time when that one ended."""
    after = (last.step or 0) if last else 0
    mine = [one for one in reports if after < (run_facts.whole_number(one.get("step")) or 0) <= step]
    losses = [loss for one in mine if (loss := _number(one.get("loss"))) is not None]
    grads = [norm for one in mine if (norm := _number(one.get("grad_norm"))) is not None]
    now, spent = _number(line.get("time")), _number(line.get("valid_seconds")) or 0.0
    wall = None
    if now is not None and started is not None and step > after:
        wall = now - spent - started
    return TrainingRow(
        epoch=number,
        step=step,
        running=math.fsum(losses) / len(losses) if losses else None,
        probe=_number(line.get("probe_loss")),
        probe_se=_number(line.get("probe_se")),
        val=_number(line.get("valid_loss")),
        val_se=_number(line.get("valid_se")),
        lr=_number(mine[-1].get("learning_rate")) if mine else None,
        wall=wall,
        grad=max(grads, default=None),
    )


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UsageError(f"{path}: not JSON", fix="copy the complete file again") from None
    return content if isinstance(content, dict) else {}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)

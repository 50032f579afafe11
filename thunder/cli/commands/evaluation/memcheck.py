"""`thunder memcheck`: detect overfitting and test-set leakage of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from thunder import digest
from thunder.cli.console.output import say
from thunder.errors import ArtifactError, GateError, UsageError
from thunder.evaluation.claims import memorization, overlap, training_table
from thunder.launcher.runs_folder import runs
from thunder.runs.bundles import bundle
from thunder.runs.records import run_record

app = typer.Typer(add_completion=False)
MEMCHECK_FILE = "memcheck.json"
MOST_EPOCHS_SHOWN = 8  # epochs that a line lists
COLUMNS = ("epoch", "step", "wraps", "running", "probe", "val", "val_se", "lr", "grad", "wall")
MOST_ROWS_SHOWN = 40  # rows


@app.command()
def memcheck(
    run: Annotated[str, typer.Argument(help="A run (id, folder, 'latest'), or a folder with epochs.jsonl.")],
    train: Annotated[Path | None, typer.Option(help="Rows (JSONL) of its training.")] = None,
    val: Annotated[Path | None, typer.Option(help="Rows (JSONL) of its validation.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Detect overfitting, leaks of validation rows into training, and placeholder training.

    Writes memcheck.json into the run unless it is sealed. Exit code 0: healthy, lag_only or overfit; 3: a leak is
    suspected, or columns are missing; 4: a leak is confirmed, or nothing was trained.
    """
    if (train is None) != (val is None):
        raise UsageError("--train and --val belong together", fix="give both")
    folder = Path(run).expanduser()
    if not (folder / training_table.EPOCHS_FILE).is_file() and not (folder / run_record.METRICS).is_file():
        folder = run_record.find_run(runs(), run)
    table = training_table.read_training_table(folder)
    found = memorization.judge_training(table, overlap.find_overlap(train, val) if train and val else None)
    content = asdict(found) | {"run": folder.name}
    if bundle.manifest_digest(folder) is None:
        digest.write_json(folder / MEMCHECK_FILE, content)
    if as_json:
        say(json.dumps(content, ensure_ascii=False, indent=4))
        raise typer.Exit(found.exit_code)
    say(format_table(table))
    _print_verdict(found)
    _raise_on_verdict(folder.name, found)


def format_table(table: training_table.TrainingTable) -> str:
    """The last rows of the table; - stands for a value that is not logged."""
    cells = [list(COLUMNS)] + [[_cell(getattr(row, name)) for name in COLUMNS] for row in table.rows[-MOST_ROWS_SHOWN:]]
    widths = [max(len(line[at]) for line in cells) for at in range(len(COLUMNS))]
    lines = ["  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in cells]
    left = len(table.rows) - MOST_ROWS_SHOWN
    return "\n".join([*([f"{left} earlier rows are left out"] if left > 0 else []), *lines])


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _print_verdict(found: memorization.MemorizationVerdict) -> None:
    for flag in found.flags:
        say(f"{flag.name}  {flag.said}")
    for text in (*found.notes, *(f"skipped: {each}" for each in found.skipped)):
        say(f"    {text}")
    if found.missing:
        say(f"    not logged: {', '.join(found.missing)}")
    places = _format_epochs(found.wraps)
    passes = "unknown" if found.passes is None else f"{found.passes:.2f}"
    say(f"passes over the rows: {passes}; further passes start at epoch: {places}; best epoch: {found.best}")
    say(f"verdict: {found.verdict}")


def _format_epochs(epochs: Sequence[float]) -> str:
    texts = [f"{place:g}" for place in epochs]
    if len(texts) > MOST_EPOCHS_SHOWN:
        texts = [*texts[:3], "...", f"{texts[-1]} ({len(texts)} times; --json lists them)"]
    return ", ".join(texts) or "none"


def _raise_on_verdict(name: str, found: memorization.MemorizationVerdict) -> None:
    signs = "; ".join(flag.said for flag in found.flags if flag.name in ("F1", "F3", "F4", "F5"))
    if found.verdict in ("leak_confirmed", "invalid_training"):
        raise ArtifactError(f"{name}: {found.verdict}: {signs}", fix="train again on rows split by id")
    if found.verdict == "leak_suspected":
        raise GateError(f"{name}: {found.verdict}: {signs}", fix="--train FILE --val FILE searches for rows in common")
    if found.verdict == "inconclusive":
        raise GateError(
            f"{name}: inconclusive, not logged: {', '.join(found.missing)}",
            fix="runs of this version log them; other programs write epochs.jsonl",
        )

"""`thunder report`: write one HTML page of a run, of an evaluation, or of a log of decisions."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from thunder.cli.console.output import say
from thunder.cli.parsing.flags import flags
from thunder.config import SettingsLayer, build_settings
from thunder.errors import UsageError
from thunder.launcher import job_runner
from thunder.launcher.options import setting_paths
from thunder.report.report_settings import ReportSettings
from thunder.runs.bundles import bundle
from thunder.runs.records import run_record
from thunder.units import format_bytes, format_path

app = typer.Typer(add_completion=False)
REPORT, PREDICTIONS = "report.html", "predictions.jsonl"
Json = Annotated[bool, typer.Option("--json", help="Print the page's path, size and missing parts as JSON.")]


@app.command()
@flags(ReportSettings)
def report(
    what: Annotated[
        str, typer.Argument(help="A run's id or folder, 'latest', an evaluation's folder, or a provenance.jsonl.")
    ] = "latest",
    as_json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    """Write one self-contained HTML file: loss, CER by partition, confusions, and rows with their differences.

    The page names the parts that a run does not have.
    """
    path = Path(what).expanduser()
    if path.is_file():
        return write_log_page(path, given, as_json)
    settings, _ = build_settings(ReportSettings, [SettingsLayer("command line", given)])
    if settings.rows:
        raise UsageError(
            "--rows cannot be used with a run, which has its own texts",
            fix="remove --rows; it is for logs of decisions",
        )
    from thunder.report.pages import evaluation_page, run_page
    from thunder.report.run_files import RunFiles

    folder = path.resolve() if path.is_dir() else run_record.find_run(job_runner.runs(), what)
    if (folder / bundle.MANIFEST).exists() and not settings.out:
        raise UsageError(f"{folder.name} is sealed: no file may be written into it", fix="--out FILE")
    is_evaluation = (folder / PREDICTIONS).is_file()
    read_page = evaluation_page.read_evaluation_page if is_evaluation else run_page.read_run_page
    _write(read_page(RunFiles(folder), settings.gate_cer), settings, folder / REPORT, as_json)


@flags(ReportSettings)
def log_report(
    log: Annotated[Path, typer.Argument(help="A provenance.jsonl.")], as_json: Json = False, *, given: dict[str, Any]
) -> None:
    """Write one HTML file of a log: decisions, reasons and texts, up to the first fault in the chain."""
    write_log_page(log.expanduser(), given, as_json)


def write_log_page(log: Path, given: dict[str, Any], as_json: bool) -> None:
    """Write the page of a provenance log, beside the log unless --out gives a path."""
    settings, _ = build_settings(ReportSettings, [SettingsLayer("command line", given)])
    from thunder.report.pages import log_page

    rows = Path(settings.rows).expanduser() if settings.rows else None
    _write(log_page.read_log_page(log, rows, settings.gate_cer), settings, log.with_suffix(".html"), as_json)


def _write(page: Any, settings: ReportSettings, usual: Path, as_json: bool) -> None:
    """Write the page; print its path and what is missing from it."""
    from thunder.report import html_writer

    begun = time.perf_counter()
    out = Path(settings.out).expanduser() if settings.out else usual
    setting_paths.check_writable(out.parent)
    out.parent.mkdir(parents=True, exist_ok=True)
    html_writer.write_page(page, out)
    size = out.stat().st_size
    if as_json:
        summary = {"page": str(out), "bytes": size, "rows": len(page.rows), "absent": list(page.absent)}
        return say(json.dumps(summary, ensure_ascii=False))
    for each in page.absent:
        say(f"missing: {each}")
    say(f"{format_path(out)}: {len(page.rows)} rows, {format_bytes(size)}, {time.perf_counter() - begun:.1f} s")

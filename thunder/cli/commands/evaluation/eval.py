"""`thunder eval`, `eval_agp_nko_adapter`: does an adapter repair, and how sure is that?"""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import typer
from rich.progress import BarColumn, Progress, TextColumn

from thunder.cli.console.plan_and_progress import talk
from thunder.cli.parsing.flags import AsJson, DryRun, flags
from thunder.config import SettingsLayer, build_settings
from thunder.errors import Interrupted, UsageError
from thunder.evaluation.evaluation_settings import EvalSettings
from thunder.launcher import job_runner
from thunder.runs.records import run_record
from thunder.runs.records.registry import PLAN
from thunder.units import format_path, format_seconds

app = typer.Typer(add_completion=False)
SECONDS_BETWEEN_LINES = 10.0  # seconds between lines where there is no terminal


@app.command(name="eval")
@flags(EvalSettings)
def evaluate(dry_run: DryRun = False, as_json: AsJson = False, *, given: dict[str, Any]) -> None:
    """Evaluate proposals for recognised texts: CER before and after, who gained, who lost, and the bound on harm.

    With no --model and no --adapter-path it is the tiny base that is shipped here, offline. A half-done evaluation is
    gone on with by --resume.
    """
    settings, folder = _settings_and_folder(given)
    from thunder.evaluation import cases, engine_setup, evaluate
    from thunder.report import html_writer
    from thunder.report.pages import evaluation_page

    _check_options(settings)
    read = cases.read_cases(Path(settings.rows).expanduser(), settings.limit)
    if dry_run:
        found = {"folder": str(folder), "rows": len(read.cases), "settings": settings.resolved()}
        print(json.dumps(found | {"rows_sha256": read.sha256}, ensure_ascii=False, indent=4))
        return
    engine, base = engine_setup.load_engines(settings, read)
    folder.mkdir(parents=True, exist_ok=True)
    with run_record.lock_run(folder), AnswerProgress(len(read.cases) * (2 if base else 1)) as bar:
        try:
            results = evaluate.run_evaluation(
                read,
                settings,
                engine,
                base,
                folder,
                bar,
                lambda *found: html_writer.render_html(evaluation_page.build_evaluation_page(*found)),
            )
        except KeyboardInterrupt:
            where = format_path(folder)
            raise Interrupted(
                f"after {bar.done} of {bar.total} answers", fix=f"thunder eval --resume {where}"
            ) from None
    if as_json:
        print(json.dumps(results, ensure_ascii=False))
    else:
        _print_results(results, folder)


def _settings_and_folder(given: dict[str, Any]) -> tuple[EvalSettings, Path]:
    """The settings, and the folder to write to; a resumed evaluation keeps what it was asked for.

    Raises UsageError where the folder holds an evaluation, or none that could be gone on with.
    """
    from thunder.evaluation import proposal_ledger

    if "resume" in given:
        folder = _resumed_folder(given)
        layers = [
            SettingsLayer(str(folder), proposal_ledger.read_stored_settings(folder)),
            SettingsLayer("command line", given),
        ]
        settings, _ = build_settings(EvalSettings, layers)
        return settings, folder
    settings, _ = build_settings(EvalSettings, [SettingsLayer("command line", given)])
    name = Path(settings.adapter_path or settings.model or settings.engine.partition(":")[0]).name
    folder = (
        Path(settings.out).expanduser() if settings.out else run_record.new_run_name(job_runner.runs(), f"eval-{name}")
    )
    if (folder / proposal_ledger.PARTIAL_FILE).exists():
        raise UsageError(f"{folder}: holds a half-done evaluation", fix=f"--resume {folder}, or another --out")
    if (folder / run_record.RESULTS).exists() or (folder / PLAN).exists():
        raise UsageError(f"{folder}: holds a finished evaluation or run", fix="another --out")
    return settings, folder


def _resumed_folder(given: dict[str, Any]) -> Path:
    """The folder that --resume means: the one it names, that of --out, or the newest half-done one."""
    from thunder.evaluation.proposal_ledger import PARTIAL_FILE

    if given["resume"] != "latest":
        return Path(given["resume"]).expanduser()
    if "out" in given:
        return Path(given["out"]).expanduser()
    half_done = sorted(path.parent for path in job_runner.runs().glob(f"*-eval-*/{PARTIAL_FILE}"))
    if not half_done:
        raise UsageError(f"no half-done evaluation in {job_runner.runs()}", fix="--resume FOLDER")
    return half_done[-1]


def _check_options(settings: EvalSettings) -> None:
    """See that the options fit together. Raises UsageError."""
    kind = settings.engine.partition(":")[0]
    if kind not in ("model", "identity", "oracle", "file") or (kind == "file") != (":" in settings.engine):
        raise UsageError(
            f"--engine {settings.engine}: there is no such engine", fix="model, identity, oracle, file:PATH"
        )
    if kind != "model" and (settings.model or settings.adapter_path or settings.compare == "base"):
        raise UsageError(
            f"--engine {settings.engine} uses no model", fix="leave out --model, --adapter-path, --compare"
        )
    if settings.min_margin is not None and settings.change_margin is not None:
        raise UsageError("--min-margin and --change-margin both decide what is taken", fix="give one of them")
    if settings.change_edits is not None and settings.change_margin is None:
        raise UsageError("--change-edits is of --change-margin", fix="--change-margin 0 makes each change by itself")
    if settings.compare == "base" and not settings.adapter_path:
        raise UsageError("--compare base: there is no adapter to compare with the base", fix="--adapter-path FOLDER")


class AnswerProgress:
    """Answers per second and the time left, on stderr: a bar on a terminal, else a line now and then."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._first: int | None = None
        self._begun = self._said = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[rest]}"),
            console=talk,
            transient=True,
            disable=not talk.is_terminal,
        )
        self._task = self._bar.add_task("answers", total=total, rest="")

    def __enter__(self) -> AnswerProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """So many of all answers are there."""
        if self._first is None:
            self._first, self._begun = done, time.monotonic()
        now, self.done = time.monotonic(), done
        speed = (done - self._first) / max(1e-9, now - self._begun)
        left = f"  ETA {format_seconds((total - done) / speed)}" if speed else ""
        self._bar.update(self._task, completed=done, rest=f"{speed:.1f} rows/s{left}")
        if not talk.is_terminal and now - self._said > SECONDS_BETWEEN_LINES:
            self._said = now
            talk.print(f"answered {done}/{total}, {speed:.1f} rows/s{left}", markup=False)


def headline_lines(results: dict[str, Any]) -> list[str]:
    """The first lines of a result for people: rates, and who gained and lost."""
    from thunder.report.number_format import format_interval, format_rate

    change = format_interval(results["cer_change"], results["cer_change_interval95"])
    lines = [
        f"CER {format_rate(results['cer_before'])} -> {format_rate(results['cer_after'])} on {results['rows']} rows "
        f"({results['edits_before']} -> {results['edits_after']} edits of {results['reference_chars']} code points)",
        f"  change {change} (95 %, bootstrap over rows)",
    ]
    for unit, what in (("grapheme", "by grapheme"), ("toneless", "without tones")):
        lines.append(
            f"  {what}: {format_rate(results[f'cer_before_{unit}'])} -> {format_rate(results[f'cer_after_{unit}'])}"
        )
    lines.append(f"  WER {format_rate(results['wer_before'])} -> {format_rate(results['wer_after'])}")
    lines.append(
        f"  {results['improved']} improved, {results['neutral']} neutral, {results['worse']} worse of "
        f"{results['accepted']} accepted: at most {results['worse_upper95']:.1%} worse (95 % sure); "
        f"exact {results['exact_before']} -> {results['exact_after']}"
    )
    return lines


def _print_results(results: dict[str, Any], folder: Path) -> None:
    """The result for people, on stdout."""
    from thunder.report.number_format import format_rate

    print("\n".join(headline_lines(results)))
    if "base" in results:
        base = results["base"]
        print(f"  base alone: {format_rate(base['cer_after'])}, {base['improved']} improved, {base['worse']} worse")
    seen = ", ".join(f"{name} {count}" for name, count in results["flags"].items() if count)
    print(f"  flags: {seen or 'none'}")
    if results["empty_reference"]["rows"]:
        print(f"  {results['empty_reference']['rows']} rows with an empty reference are counted apart")
    print(f"  {format_path(folder)}/report.html, predictions.jsonl, results.json")

"""`thunder agp eval`: score the gate on proposals whose references are known."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from thunder.bridge.bridge_settings import ScoreSettings
from thunder.cli.console.output import say
from thunder.cli.parsing.flags import ConfigFile, flags
from thunder.config import build_settings
from thunder.errors import Interrupted, UsageError
from thunder.launcher import job_runner
from thunder.launcher.options import setting_paths
from thunder.launcher.options.setting_layers import file_and_flags
from thunder.runs.records import run_record
from thunder.runs.records.registry import PLAN
from thunder.units import format_path

ROW_ENGINES = ("rows", "oracle")  # engines that read the proposals or references of the rows

Json = Annotated[bool, typer.Option("--json", help="Print JSON: one object, or a list for several files.")]
Files = Annotated[list[Path], typer.Argument(help="Rows (JSONL), with references where there are any.")]


@flags(ScoreSettings)
def evaluate(files: Files, config: ConfigFile = None, as_json: Json = False, *, given: dict[str, Any]) -> None:
    """Score proposals behind the gate: CER before and after, rows that improve or worsen, bound on harm, reasons.

    Nothing is signed, and no batch is stopped: the output says whether it would have been.
    """
    settings, _ = build_settings(ScoreSettings, file_and_flags(ScoreSettings, config, given))
    from thunder.bridge import proposers
    from thunder.bridge.gate_score import GateScorer
    from thunder.evaluation import cases

    proposers.check_engine_options(settings, ROW_ENGINES)
    book = proposers.load_rulebook(settings)
    folders = _output_folders(files, settings)
    inputs = [cases.read_cases(file.expanduser(), settings.limit, "missing") for file in files]
    shared = None if _has_engine_per_file(settings) else proposers.load_proposers(settings)
    all_results = []
    for each, folder in zip(inputs, folders, strict=True):
        results = _score_file(each, settings, shared or _file_engines(settings, each), GateScorer(book), folder)
        all_results.append({"file": str(each.path), "folder": str(folder), **results})
        if not as_json:
            say("\n".join([f"{format_path(each.path)}:", *_result_lines(results, folder)]))
    if as_json:
        say(json.dumps(all_results if len(all_results) > 1 else all_results[0], ensure_ascii=False))
    else:
        say(f"rules {book.id}")


def _output_folders(files: Sequence[Path], settings: ScoreSettings) -> list[Path]:
    """A folder for each file. Raises UsageError where one holds results, or two files would share one."""
    shared = [stem for stem, count in Counter(file.stem for file in files).items() if count > 1]
    if shared:
        raise UsageError(f"files with the same name: {', '.join(shared)}", fix="rename them, or evaluate one at a time")
    if settings.out:
        out = Path(settings.out).expanduser()
        folders = [out / file.stem for file in files] if len(files) > 1 else [out]
    else:
        folders = [run_record.new_run_name(job_runner.runs(), f"gate-{file.stem}") for file in files]
    for folder in folders:
        setting_paths.check_writable(folder)
        if any((folder / name).exists() for name in (run_record.RESULTS, PLAN)):
            raise UsageError(f"{folder}: holds finished results or a run", fix="name another folder: --out FOLDER")
    return folders


def _has_engine_per_file(settings: ScoreSettings) -> bool:
    """Whether each file of rows has its own engine."""
    return settings.engine.partition(":")[0] in (*ROW_ENGINES, "file")


def _file_engines(settings: ScoreSettings, read: Any) -> tuple[Any, Any]:
    """The engine of one file, without a base beside it."""
    from thunder.bridge import gate_score, proposers

    if settings.engine == "rows":
        return gate_score.recorded_proposals(read), None
    if settings.engine == "oracle":
        return gate_score.CertainOracleEngine(), None
    return proposers.load_proposers(settings, read.all_ids)


def _score_file(
    read: Any, settings: ScoreSettings, engines: tuple[Any, Any], scorer: Any, folder: Path
) -> dict[str, Any]:
    """Propose for the rows of one file, judge the proposals, sum up and write the results."""
    from thunder.cli.console.answer_progress import AnswerProgress
    from thunder.evaluation import evaluate
    from thunder.report import html_writer
    from thunder.report.pages import evaluation_page

    engine, base = engines[0], engines[1] if settings.compare == "base" else None
    folder.mkdir(parents=True, exist_ok=True)
    with run_record.lock_run(folder), AnswerProgress(len(read.cases) * (2 if base else 1)) as bar:
        try:
            return evaluate.run_evaluation(
                read, settings, engine, base, folder, bar,
                lambda *found: html_writer.render_html(evaluation_page.build_evaluation_page(*found)),
                scorer.judge, scorer.add_up,
            )  # fmt: skip
        except KeyboardInterrupt:
            again = f"the same command with --out {format_path(folder)} continues"
            raise Interrupted(f"after {bar.done} of {bar.total} answers", fix=again) from None


def _result_lines(results: dict[str, Any], folder: Path) -> list[str]:
    """The result as text."""
    from thunder.cli.commands.evaluation.eval import headline_lines
    from thunder.report.number_format import format_rate

    gate = results["gate"]
    counts = ", ".join(f"{count} {kind}" for kind, count in gate["decisions"].items())
    reasons = ", ".join(f"{rule} {count}" for rule, count in gate["reasons"].items())
    refused = ", ".join(f"{count} {kind}" for kind, count in gate["refused"].items())
    rates = [
        *headline_lines(results),
        f"  all proposals accepted: {format_rate(results['cer_blind'])}; the better of input and proposal each time: "
        f"{format_rate(results['cer_oracle'])}",
    ]
    lines = [
        *(rates if results["rows"] else ["no row has a reference: only decisions, no error rates"]),
        f"  decisions: {counts}; {gate['admissible']} admissible",
        *([f"  reasons: {reasons}"] if reasons else []),
        *([f"  if the rejected had been accepted: {refused}"] if any(gate["refused"].values()) else []),
        *(
            _partition_line(name, block, gate["by_partition"][name])
            for name, block in results["by"]["partition"].items()
        ),
        *([f"  as one batch, these rows would be stopped: {gate['breaker']}"] if gate["breaker"] else []),
    ]
    if "base" in results:
        base = results["base"]
        lines.append(
            f"  base alone: {format_rate(base['cer_after'])}, {base['improved']} improved, {base['worse']} worse"
        )
    if results["empty_reference"]["rows"]:
        lines.append(f"  {results['empty_reference']['rows']} rows without a reference are counted separately")
    return [*lines, f"  evidence: {gate['evidence_class']}", f"  {format_path(folder)}"]


def _partition_line(name: str, block: dict[str, Any], decided: dict[str, int]) -> str:
    from thunder.report.number_format import format_rate

    change = f"{format_rate(block['cer_before'])} -> {format_rate(block['cer_after'])}"
    taken = f"{decided['accept']} of {sum(decided.values())} accepted"
    return f"  {name}: {change}, {taken}, {block['improved']} improved, {block['worse']} worse"

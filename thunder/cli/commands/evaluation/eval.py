"""`thunder eval`, `eval_agp_nko_adapter`: measure how an adapter corrects recognizer output, with confidence bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from thunder.api.run_evaluation import plan_evaluation, run_evaluation
from thunder.cli.console.answer_progress import AnswerProgress
from thunder.cli.parsing.flags import AsJson, DryRun, flags
from thunder.evaluation.evaluation_settings import EvalSettings
from thunder.launcher.options.setting_layers import COMMAND_LINE
from thunder.units import format_path

app = typer.Typer(add_completion=False)


@app.command(name="eval")
@flags(EvalSettings)
def evaluate(dry_run: DryRun = False, as_json: AsJson = False, *, given: dict[str, Any]) -> None:
    """Evaluate proposed corrections of recognizer output: CER before and after, better and worse rows, bound on harm.

    Without --model and --adapter-path, the bundled tiny base model is evaluated, offline. --resume continues an
    interrupted evaluation.
    """
    planned = plan_evaluation(given, COMMAND_LINE)
    if dry_run:
        found = {
            "folder": str(planned.folder),
            "rows": len(planned.rows.cases),
            "settings": planned.settings.resolved(),
            "rows_sha256": planned.rows.sha256,
        }
        print(json.dumps(found, ensure_ascii=False, indent=4))
        return
    with AnswerProgress(planned.answers) as progress:
        result = run_evaluation(planned, progress)
    if as_json:
        print(json.dumps(result.results, ensure_ascii=False))
    else:
        _print_results(result.results, result.folder)


def headline_lines(results: Mapping[str, Any]) -> list[str]:
    """The first lines of a printed result: rates, and counts of improved and worse rows."""
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
        f"{results['accepted']} accepted: at most {results['worse_upper95']:.1%} worse (95 % confidence); "
        f"exact {results['exact_before']} -> {results['exact_after']}"
    )
    return lines


def _print_results(results: Mapping[str, Any], folder: Path) -> None:
    """Print the result on stdout."""
    from thunder.report.number_format import format_rate

    print("\n".join(headline_lines(results)))
    if "base" in results:
        base = results["base"]
        print(f"  base alone: {format_rate(base['cer_after'])}, {base['improved']} improved, {base['worse']} worse")
    seen = ", ".join(f"{name} {count}" for name, count in results["flags"].items() if count)
    print(f"  flags: {seen or 'none'}")
    if results["empty_reference"]["rows"]:
        print(f"  {results['empty_reference']['rows']} rows with an empty reference are counted separately")
    print(f"  {format_path(folder)}/report.html, predictions.jsonl, results.json")

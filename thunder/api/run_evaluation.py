"""Evaluate proposals for recognized texts from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from thunder.api.python_options import given_options
from thunder.api.results import PYTHON, EvaluationResult, evaluation_result
from thunder.config import SettingsLayer, build_settings
from thunder.errors import Interrupted, UsageError
from thunder.evaluation.evaluation_settings import EvalSettings
from thunder.launcher.runs_folder import runs
from thunder.runs.records import run_record
from thunder.runs.records.registry import PLAN
from thunder.text.comparable import RULES
from thunder.units import format_path

OnAnswer = Callable[[int, int], None]
"""Called with (answers done, answers in all)."""


def evaluate(*, on_answer: OnAnswer = lambda done, total: None, **options: Any) -> EvaluationResult:
    """Evaluate proposals for the rows of a file: CER before and after, who gained, who lost, the bound on harm.

    The same as `thunder eval`: it writes predictions.jsonl, results.json and report.html into a folder.

    Args:
        on_answer: called with (answers done, answers in all).
        **options: fields of `thunder.evaluation.evaluation_settings.EvalSettings`, such as `rows="test.jsonl"`,
            `adapter_path="runs/latest/adapters"`, `out="folder"`; without `model` and `adapter_path` the shipped tiny
            base answers.

    Returns:
        Error rates and counts, and the folder with the rows.

    Raises:
        UsageError: the options do not fit together, or the folder holds another result.
        CorpusError: the rows cannot be used.
        ModelError: the model or the adapter cannot be used.
        Interrupted: Ctrl-C; `resume=folder` continues.
    """
    return run_evaluation(plan_evaluation(given_options(options), PYTHON), on_answer)


@dataclass(frozen=True)
class PlannedEvaluation:
    """An evaluation that can be run: settings, folder and rows (a thunder.evaluation.cases.EvaluationSet)."""

    settings: EvalSettings
    folder: Path
    rows: Any

    @property
    def answers(self) -> int:
        """Answers that it needs: one a row, and one more where the base is compared."""
        return len(self.rows.cases) * (2 if self.settings.compare == "base" else 1)


def plan_evaluation(options: Mapping[str, Any], source: str) -> PlannedEvaluation:
    """Read the rows and check the options; nothing is written. Raises as `evaluate`."""
    from thunder.corpora.rows.field_mapping import parse_field_mapping
    from thunder.evaluation import cases

    settings, folder = _settings_and_folder(options, source)
    check_options(settings)
    rows = cases.read_cases(
        Path(settings.rows).expanduser(), settings.limit, mapping=parse_field_mapping(settings.fields)
    )
    return PlannedEvaluation(settings, folder, rows)


def run_evaluation(planned: PlannedEvaluation, on_answer: OnAnswer) -> EvaluationResult:
    """Run a planned evaluation; see `evaluate`."""
    from thunder.evaluation import engine_setup, evaluate
    from thunder.evaluation.metrics.judge import judge_proposal
    from thunder.report import html_writer
    from thunder.report.pages import evaluation_page

    settings, folder, rows = planned.settings, planned.folder, planned.rows
    engine, base = engine_setup.load_engines(settings, rows)
    folder.mkdir(parents=True, exist_ok=True)
    counts = (0, len(rows.cases) * (2 if base else 1))

    def count(done: int, total: int) -> None:
        nonlocal counts
        counts = (done, total)
        on_answer(done, total)

    with run_record.lock_run(folder):
        try:
            results = evaluate.run_evaluation(
                rows, settings, engine, base, folder, count,
                lambda *parts: html_writer.render_html(evaluation_page.build_evaluation_page(*parts)),
                partial(judge_proposal, normalize=settings.normalize),
                lambda rows: {"normalize": {"name": settings.normalize, "rules": RULES[settings.normalize]}},
            )  # fmt: skip
        except KeyboardInterrupt:
            fix = f"thunder eval --resume {format_path(folder)}"
            raise Interrupted(f"after {counts[0]} of {counts[1]} answers", fix=fix) from None
    return evaluation_result(folder, results)


def _settings_and_folder(options: Mapping[str, Any], source: str) -> tuple[EvalSettings, Path]:
    """The settings, and the folder to write to; a resumed evaluation keeps its own settings.

    Raises UsageError where the folder holds an evaluation, or none that can be resumed.
    """
    from thunder.evaluation import proposal_ledger

    given = SettingsLayer(source, options)
    if "resume" in options:
        folder = _resumed_folder(options)
        stored = SettingsLayer(str(folder), proposal_ledger.read_stored_settings(folder))
        return build_settings(EvalSettings, [stored, given])[0], folder
    settings, _ = build_settings(EvalSettings, [given])
    name = Path(settings.adapter_path or settings.model or settings.engine.partition(":")[0]).name
    new_folder = run_record.new_run_name(runs(), f"eval-{name}")
    folder = Path(settings.out).expanduser() if settings.out else new_folder
    if (folder / proposal_ledger.PARTIAL_FILE).exists():
        raise UsageError(f"{folder}: holds an unfinished evaluation", fix=f"--resume {folder}, or another --out")
    if (folder / run_record.RESULTS).exists() or (folder / PLAN).exists():
        raise UsageError(f"{folder}: holds a finished evaluation or run", fix="another --out")
    return settings, folder


def _resumed_folder(options: Mapping[str, Any]) -> Path:
    """The folder that `resume` means: the one it names, that of `out`, or the newest unfinished one."""
    from thunder.evaluation.proposal_ledger import PARTIAL_FILE

    if options["resume"] != "latest":
        return Path(options["resume"]).expanduser()
    if "out" in options:
        return Path(options["out"]).expanduser()
    half_done = sorted(path.parent for path in runs().glob(f"*-eval-*/{PARTIAL_FILE}"))
    if not half_done:
        raise UsageError(f"no unfinished evaluation in {runs()}", fix="--resume FOLDER")
    return half_done[-1]


def check_options(settings: EvalSettings) -> None:
    """Check that the options fit together. Raises UsageError."""
    kind = settings.engine.partition(":")[0]
    if kind not in ("model", "identity", "oracle", "file") or (kind == "file") != (":" in settings.engine):
        raise UsageError(
            f"--engine {settings.engine}: no such engine", fix="one of: model, identity, oracle, file:PATH"
        )
    if kind != "model" and (settings.model or settings.adapter_path or settings.compare == "base"):
        raise UsageError(
            f"--engine {settings.engine} uses no model", fix="leave out --model, --adapter-path, --compare"
        )
    if settings.min_margin is not None and settings.change_margin is not None:
        raise UsageError("--min-margin and --change-margin exclude each other", fix="give one of them")
    if settings.change_edits is not None and settings.change_margin is None:
        raise UsageError("--change-edits needs --change-margin", fix="--change-margin 0 applies each change by itself")
    if settings.compare == "base" and not settings.adapter_path:
        raise UsageError("--compare base: there is no adapter to compare with the base", fix="--adapter-path FOLDER")

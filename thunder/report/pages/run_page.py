"""Build the page of a training run: its loss, and the test rows of its adapter or recognizer."""

from __future__ import annotations

from typing import Any

from thunder.config import load_yaml
from thunder.errors import ConfigError, UsageError
from thunder.report import sections
from thunder.report.loss_curve import LossCurve, build_loss_curve
from thunder.report.number_format import format_fact
from thunder.report.page_model import Page
from thunder.report.pages import adapter_page, recognizer_page
from thunder.report.pages.page_parts import Cards, TestRowParts
from thunder.report.run_files import RunFiles, get_object
from thunder.runs.bundles.scored_rows import PREDICTIONS
from thunder.runs.records.registry import END, PLAN, is_running
from thunder.runs.records.run_record import CONFIG, ENVIRONMENT, METRICS, RESULTS

INCIDENTS = "incidents.jsonl"
CONFIG_FACTS = ("model", "train_data", "data", "script", "mode", "head", "seed", "learning_rate", "batch_size", "iters")
RESULT_FACTS = ("steps", "ranks", "global_batch_size", "tokens", "stopped_early", "best_step", "best_valid_loss")


def read_run_page(folder: RunFiles, gate: float | None = None) -> Page:
    """Build the page of a run's folder from the files that exist. Raises UsageError if there are none."""
    if not any(folder.has(name) for name in (CONFIG, METRICS, RESULTS, PREDICTIONS)):
        missing = f"none of {CONFIG}, {METRICS}, {RESULTS}, {PREDICTIONS} is in it"
        raise UsageError(f"{folder.path}: no run, {missing}", fix="name a run's folder; `thunder status` lists them")
    curve = build_loss_curve(folder.lines(METRICS, "no loss"), folder.lines(INCIDENTS, ""))
    if not curve.points and folder.has(METRICS):
        folder.absent.append(f"{METRICS} tells of no loss: no loss is drawn")
    going = is_running(folder.path)
    results = folder.json(
        RESULTS, "the run is going on" if going else f"the run did not come to its end{_end_message(folder)}"
    )
    cards, tested, rows, notes = _test_parts(folder, results, gate)
    return Page(
        title=folder.path.name,
        kind="Run",
        facts=_run_facts(folder, results),
        cards=[*cards, *_progress_cards(curve)],
        absent=folder.absent,
        sections=[*sections.loss_sections(curve), *tested],
        rows=rows,
        rows_notes=notes,
    )


def _test_parts(folder: RunFiles, results: dict[str, Any], gate: float | None) -> TestRowParts:
    """Return the sections on the test rows; their fields tell whether they are an adapter's or a recognizer's."""
    lines = folder.lines(PREDICTIONS, "no CER, no confusions and no rows")
    if any("prediction_after" in row for row in lines):
        return adapter_page.adapter_test_parts(folder, lines, get_object(results, "test"), gate)
    if lines:
        return recognizer_page.recognizer_test_parts(folder, lines, results, gate)
    return [], [], [], []


def _end_message(folder: RunFiles) -> str:
    """Return what end.json gives for a run without results."""
    end = folder.json(END, "") if folder.has(END) else {}
    words = str(end.get("message") or "").splitlines()
    return f" ({end.get('state', 'ended')}: {words[0]})" if words else ""


def _run_facts(folder: RunFiles, results: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the run's configuration, results and environment."""
    try:
        config = load_yaml(folder.path / CONFIG)
    except ConfigError as error:
        fault = "is missing" if not folder.has(CONFIG) else error.message.removeprefix(str(folder.path / CONFIG))
        folder.absent.append(f"{CONFIG} {fault.lstrip(': ')}: its options are not shown")
        config = {}
    environment = folder.json(ENVIRONMENT, "the machine is not named")
    planned = get_object(folder.json(PLAN, ""), "model")
    known = {name: config.get(name) for name in CONFIG_FACTS} | {name: results.get(name) for name in RESULT_FACTS}
    known["model"] = config.get("model") or planned.get("name")
    versions = get_object(environment, "versions")
    known |= {"chip": environment.get("chip"), "mlx": versions.get("mlx"), "commit": environment.get("commit")}
    return [format_fact(name, value) for name, value in known.items() if value not in (None, "", [], 0)]


def _progress_cards(curve: LossCurve) -> Cards:
    best = [(f"{curve.best.loss:.4f}", f"best validation loss, at step {curve.best.step}")] if curve.best else []
    restarts = len(curve.restarts)
    return [*best, (str(restarts), "restart" if restarts == 1 else "restarts")] if curve.points else []

"""The page of a training run: its course, and what its test rows show of an adapter or of a recogniser."""

from __future__ import annotations

from typing import Any

from thunder.config import load_yaml
from thunder.errors import ConfigError, UsageError
from thunder.report import sections
from thunder.report.loss_curve import Course, course
from thunder.report.number_format import fact
from thunder.report.page_model import Page
from thunder.report.pages import adapter_page, recognizer_page
from thunder.report.pages.page_parts import Cards, Tested
from thunder.report.run_files import Folder, object_in
from thunder.runs.bundles.scored_rows import PREDICTIONS
from thunder.runs.records.registry import END, PLAN, is_running
from thunder.runs.records.run_record import CONFIG, ENVIRONMENT, METRICS, RESULTS

INCIDENTS = "incidents.jsonl"
TOLD = ("model", "train_data", "data", "script", "mode", "head", "seed", "learning_rate", "batch_size", "iters")
COUNTED = ("steps", "ranks", "global_batch_size", "tokens", "stopped_early", "best_step", "best_valid_loss")


def read(folder: Folder, gate: float | None = None) -> Page:
    """The page of a run's folder, as far as its files go. Raises UsageError where it has none of them."""
    if not any(folder.has(name) for name in (CONFIG, METRICS, RESULTS, PREDICTIONS)):
        found = f"none of {CONFIG}, {METRICS}, {RESULTS}, {PREDICTIONS} is in it"
        raise UsageError(f"{folder.path}: no run, {found}", fix="name a run's folder; `thunder status` lists them")
    seen = course(folder.lines(METRICS, "no loss"), folder.lines(INCIDENTS, ""))
    if not seen.points and folder.has(METRICS):
        folder.absent.append(f"{METRICS} tells of no loss: no loss is drawn")
    going = is_running(folder.path)
    results = folder.json(RESULTS, "the run is going on" if going else f"the run did not come to its end{_why(folder)}")
    cards, tested, rows, notes = _test(folder, results, gate)
    return Page(
        title=folder.path.name,
        kind="Run",
        facts=_facts(folder, results),
        cards=[*cards, *_progress(seen)],
        absent=folder.absent,
        sections=[*sections.loss(seen), *tested],
        rows=rows,
        rows_notes=notes,
    )


def _test(folder: Folder, results: dict[str, Any], gate: float | None) -> Tested:
    """What the test rows show; they say themselves whose they are."""
    lines = folder.lines(PREDICTIONS, "no CER, no confusions and no rows")
    if any("prediction_after" in row for row in lines):
        return adapter_page.tested(folder, lines, object_in(results, "test"), gate)
    if lines:
        return recognizer_page.tested(folder, lines, results, gate)
    return [], [], [], []


def _why(folder: Folder) -> str:
    """What end.json says of a run without results."""
    said = folder.json(END, "") if folder.has(END) else {}
    words = str(said.get("message") or "").splitlines()
    return f" ({said.get('state', 'ended')}: {words[0]})" if words else ""


def _facts(folder: Folder, results: dict[str, Any]) -> list[tuple[str, str]]:
    """What the run was asked for, how far it came, and where."""
    try:
        config = load_yaml(folder.path / CONFIG)
    except ConfigError as error:
        said = "is missing" if not folder.has(CONFIG) else error.message.removeprefix(str(folder.path / CONFIG))
        folder.absent.append(f"{CONFIG} {said.lstrip(': ')}: its options are not shown")
        config = {}
    environment = folder.json(ENVIRONMENT, "the machine is not named")
    planned = object_in(folder.json(PLAN, ""), "model")
    known = {name: config.get(name) for name in TOLD} | {name: results.get(name) for name in COUNTED}
    known["model"] = config.get("model") or planned.get("name")
    versions = object_in(environment, "versions")
    known |= {"chip": environment.get("chip"), "mlx": versions.get("mlx"), "commit": environment.get("commit")}
    return [fact(name, value) for name, value in known.items() if value not in (None, "", [], 0)]


def _progress(seen: Course) -> Cards:
    best = [(f"{seen.best.loss:.4f}", f"best validation loss, at step {seen.best.step}")] if seen.best else []
    restarts = len(seen.restarts)
    return [*best, (str(restarts), "restart" if restarts == 1 else "restarts")] if seen.points else []

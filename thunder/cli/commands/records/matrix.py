"""`thunder matrix`: an experiment as a whole: checked before it is run, run on the hosts there are, taken up again."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from thunder import digest
from thunder.cli.console.output import say
from thunder.config import SettingsLayer, build_settings, dump_yaml
from thunder.errors import GateError, UsageError, combined_error
from thunder.launcher.runs_folder import runs
from thunder.runs.matrix import matrix_check, matrix_driver, matrix_page
from thunder.runs.matrix import matrix_spec as matrices
from thunder.runs.matrix.matrix_driver import DriverOptions, HostSlot
from thunder.runs.matrix.matrix_spec import Matrix
from thunder.runs.matrix.matrix_status import CellState, MatrixLedger
from thunder.units import format_path

app = typer.Typer(help="Check, plan, run and follow a matrix of runs.", no_args_is_help=True)
# matrices of earlier versions name the old path of the page
MOVED_PAGES = {"docs/modes.md": "docs/explanation/modes.md"}
File = Annotated[Path, typer.Argument(help="The matrix (JSON or YAML); docs/how-to/run-a-matrix.md has one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]
Only = Annotated[list[str] | None, typer.Option(help="Only this run (id, or id with seed); may be repeated.")]
Across = Annotated[bool, typer.Option("--across", help="Run one run at a time on all hosts, not one on each host.")]
ClusterName = Annotated[str | None, typer.Option("--cluster", help="Cluster file or name, as for train.")]
COMMAND = (sys.executable, "-P", "-m", "thunder", "asr", "train")


@app.command()
def check(file: File, as_json: AsJson = False) -> None:
    """Hold a matrix against its rules: one factor, both ends, seeds, split, budget, definitions; exit code 3."""
    plan = matrices.read_matrix(file)
    found = findings(plan, file)
    if as_json:
        say(json.dumps([asdict(one) for one in found], ensure_ascii=False, indent=4))
        raise typer.Exit(GateError.exit_code if found else 0)
    refuse(plan, found)
    say(f"{plan.id}: {len(matrices.matrix_cells(plan))} runs, {len(plan.comparisons)} comparisons, no findings")


@app.command("plan")
def plan_(file: File, as_json: AsJson = False) -> None:
    """List the runs with their commands, the hours and the cost."""
    plan = matrices.read_matrix(file)
    hours, cells = matrix_check.estimated_hours(plan), matrices.matrix_cells(plan)
    lines: list[dict[str, Any]] = [
        {
            "id": cell.id,
            "required": cell.run.required,
            "hours": cell.run.hours or plan.estimate.hours,
            "command": ["thunder", "asr", "train", *matrices.cell_arguments(cell.options)],
        }
        for cell in cells
    ]
    cost = None if hours is None else hours * plan.estimate.usd_per_hour
    if as_json:
        return say(json.dumps({"runs": lines, "hours": hours, "usd": cost}, ensure_ascii=False, indent=4))
    for line in lines:
        say(f"{line['id']:32} {'required' if line['required'] else 'optional':9} {' '.join(line['command'])}")
    total = "not estimated" if hours is None else f"{hours:g} hours, {cost:.2f} USD"
    say(f"{len(lines)} runs, {total}")


@app.command()
def run(
    file: File,
    only: Only = None,
    cluster: ClusterName = None,
    across: Across = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Print the runs and their hosts, and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run what is not done: one run a host at a time, or one over all hosts; each that is whole is sealed.

    A short rehearsal of each condition comes first. After a crash the same command goes on.
    """
    plan = matrices.read_matrix(file)
    refuse(plan, findings(plan, file))
    _refuse_unknown(plan, only or [])
    ledger = MatrixLedger(runs(), plan)
    if dry_run:
        return _print_dry_run(ledger, only or [], places(cluster, across, None), as_json)
    ledger.folder.mkdir(parents=True, exist_ok=True)
    digest.write_json(ledger.folder / "matrix.json", plan.resolved())
    environ = dict(os.environ) | {"THUNDER_RUNS": str(runs().absolute())}
    how = DriverOptions(COMMAND, places(cluster, across, ledger.folder), environ, tuple(only or ()))
    try:
        matrix_driver.run_matrix(ledger, how, (lambda text: None) if as_json else say)
    finally:
        write_pages(ledger)
    _print_states(ledger, ledger.states(), as_json)


@app.command()
def resume(
    file: File, only: Only = None, cluster: ClusterName = None, across: Across = False, as_json: AsJson = False
) -> None:
    """Go on with a matrix that was begun: the same as `run`, but never a beginning."""
    if not (MatrixLedger(runs(), matrices.read_matrix(file)).folder / "cells").is_dir():
        raise UsageError(f"{file}: no run of it was started yet", fix=f"thunder matrix run {file}")
    run(file, only, cluster, across, False, as_json)


@app.command()
def status(file: File, as_json: AsJson = False) -> None:
    """Where each run stands, by what lies in its folder; writes the page anew."""
    ledger = MatrixLedger(runs(), matrices.read_matrix(file))
    states = ledger.states()
    if ledger.folder.is_dir():
        write_pages(ledger)
    _print_states(ledger, states, as_json)


def findings(plan: Matrix, file: Path) -> list[matrix_check.MatrixFinding]:
    """Return the faults of a matrix; its definitions file is beside the matrix or in the working folder."""
    definitions = None
    if plan.definitions:
        names = [plan.definitions, MOVED_PAGES.get(plan.definitions, plan.definitions)]
        places = [folder / name for name in names for folder in (file.parent, Path())]
        path = next((each for each in places if each.is_file()), None)
        definitions = path.read_text(encoding="utf-8", errors="replace") if path else None
    return matrix_check.check_matrix(plan, resolve, definitions)


def resolve(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the recognizer with defaults. Raises ConfigError for an unknown option."""
    from thunder.acoustic.acoustic_settings import AcousticSettings

    needed = {"features": ["-"]} | dict(options)
    settings, _ = build_settings(AcousticSettings, [SettingsLayer("matrix", needed)])
    return settings.resolved()


def refuse(plan: Matrix, found: list[matrix_check.MatrixFinding]) -> None:
    """Raise GateError that lists every fault, and the fewest runs that would mend them."""
    if not found:
        return
    proposals = {finding.proposal["id"]: finding.proposal for finding in found if finding.proposal}
    fix = "correct the matrix"
    if proposals:
        fix = "add " + "; ".join(f"{name}: {json.dumps(proposal)}" for name, proposal in proposals.items())
    raise combined_error(
        GateError, f"{plan.id}: cannot be run:", [f"{finding.rule}: {finding.said}" for finding in found], fix
    )


def places(name: str | None, across: bool, folder: Path | None) -> list[HostSlot]:
    """Where runs go: each host by itself, with a cluster file of one written into `folder`, or all hosts together."""
    from thunder.cluster.inventory import cluster_file

    choice = cluster_file.choose_cluster(name, os.environ, Path.home())
    if across:
        where = ("--cluster", str(choice.path)) if choice.path else ("--ranks", str(len(choice.cluster.hosts)))
        return [HostSlot(choice.cluster.name, where)]
    slots = []
    for host in choice.cluster.hosts:
        path = (folder or runs()) / "hosts" / f"{host.name}.yaml"
        if folder:
            path.parent.mkdir(exist_ok=True)
            alone = choice.cluster.model_copy(update={"name": host.name, "backend": "ring", "hosts": [host]})
            digest.write_atomically(path, dump_yaml(alone.model_dump(mode="json", exclude_none=True)))
        slots.append(HostSlot(host.name, ("--cluster", str(path.absolute()))))
    return slots


def write_pages(ledger: MatrixLedger) -> None:
    """The matrix' page, for a browser and for a repository."""
    states = ledger.states()
    digest.write_atomically(ledger.folder / "index.html", matrix_page.matrix_html(ledger.plan, states, ledger.folder))
    digest.write_atomically(ledger.folder / "matrix.md", matrix_page.matrix_markdown(ledger.plan, states))


def _refuse_unknown(plan: Matrix, only: list[str]) -> None:
    known = {name for cell in matrices.matrix_cells(plan) for name in (cell.id, cell.run.id)}
    if unknown := [name for name in only if name not in known]:
        raise UsageError(f"--only {unknown[0]}: not a run of the matrix", fix=f"one of: {', '.join(sorted(known))}")


def _print_dry_run(ledger: MatrixLedger, only: list[str], where: list[HostSlot], as_json: bool) -> None:
    states = [state for state in ledger.states() if not only or state.cell.id in only or state.cell.run.id in only]
    lines: list[dict[str, Any]] = [
        {
            "id": state.cell.id,
            "state": state.state,
            "command": [*COMMAND, *matrices.cell_arguments(state.cell.options)],
            "run": state.folder.name,
        }
        for state in states
    ]
    if as_json:
        return say(json.dumps({"places": [place.name for place in where], "runs": lines}, indent=4))
    say(f"on {', '.join(place.name for place in where)}, one run each at a time:")
    for line in lines:
        say(f"{line['id']:32} {line['state']:9} {' '.join(line['command'][3:])} --run-name {line['run']}")


def _print_states(ledger: MatrixLedger, states: list[CellState], as_json: bool) -> None:
    if as_json:
        lines = [asdict(state) | {"cell": state.cell.id, "folder": str(state.folder)} for state in states]
        return say(json.dumps({"matrix": ledger.plan.id, "runs": lines}, ensure_ascii=False, indent=4))
    for state in states:
        step = f"{state.step or 0}/{state.steps or '?'}" if state.state == "running" else ""
        cer = "" if state.cer is None else f"CER {state.cer:.4f}"
        say(f"{state.cell.id:32} {state.state:9} {step:>13} {cer:12} {state.why or ''}".rstrip())
    if (ledger.folder / "index.html").is_file():
        say(f"page: {format_path(ledger.folder / 'index.html')}")

"""`thunder gpu`: run a matrix on rented machines, one GPU per run; nothing is rented or released without a command."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from thunder.cli.commands.records import matrix as matrix_command
from thunder.cli.console.output import say
from thunder.cli.parsing.flags import flags
from thunder.config import REPOSITORY, SettingsLayer, build_settings
from thunder.errors import UsageError
from thunder.launcher.runs_folder import runs
from thunder.rental import checkout, rental_lane, rental_offers
from thunder.rental.rental_lane import RentalSession
from thunder.rental.rental_ledger import RentalLedger
from thunder.rental.rental_offers import PAYLOAD_FOLDER, RentalOrder, RentalSettings
from thunder.rental.vastai import VastClient
from thunder.runs.bundles import bundle
from thunder.runs.bundles.bundle_checks import json_object
from thunder.runs.hypotheses.frozen_hypothesis import FROZEN
from thunder.runs.matrix import matrix_spec as matrices
from thunder.runs.matrix.matrix_spec import Matrix, MatrixCell
from thunder.runs.matrix.matrix_status import MatrixLedger as MatrixLedger

app = typer.Typer(help="Run a matrix on rented GPUs. Nothing is rented without --yes.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(help="The matrix.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]
RunName = Annotated[str, typer.Argument(help="Name of the run's folder, or the rental's label.")]
PATHS = (
    "features",
    "split",
    "start_from",
    "hypothesis",
    "texts",
)  # options that name files, which must be uploaded too


@app.command()
@flags(RentalSettings)
def plan(file: File, as_json: AsJson = False, *, given: dict[str, Any]) -> None:
    """Print each run's estimated hours and the money spent; contacts no service."""
    settings, whole = _settings(given), matrices.read_matrix(file)
    ledger = RentalLedger(runs())
    lines = [{"run": matrices.folder_name(whole, cell), "hours": _hours(settings, whole, cell)}
             for cell in matrices.matrix_cells(whole)]  # fmt: skip
    cap, spent = settings.cap or whole.budget.usd, ledger.spent_usd()
    if as_json:
        summary = {"runs": lines, "cap_usd": cap, "spent_usd": spent, "query": rental_offers.offer_query(settings)}
        return say(json.dumps(summary, indent=4))
    for line in lines:
        estimate = "no estimate" if line["hours"] is None else f"{line['hours']:g} h"
        say(f"{line['run']:48} {estimate}")
    say(f"search: {rental_offers.offer_query(settings)}")
    say(f"spent {spent:.2f} USD, cap {'none: give --cap' if cap is None else f'{cap:.2f} USD'}")


@app.command()
@flags(RentalSettings)
def search(as_json: AsJson = False, *, given: dict[str, Any]) -> None:
    """Print current offers, cheapest first."""
    offers = VastClient(os.environ).offers(rental_offers.offer_query(_settings(given)))
    if as_json:
        return say(json.dumps([asdict(offer) for offer in offers], indent=4))
    for offer in offers[:20]:
        say(f"{offer.id:>10} {offer.gpu:16} {offer.usd_per_hour:7.3f} USD/h  reliability {offer.reliability:.3f}")
    say(f"{len(offers)} offers")


@app.command()
@flags(RentalSettings)
def launch(
    file: File,
    only: Annotated[str, typer.Option(help="The run (id, with its seed where it has several).")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Rent it; without this flag only print what would be rented.")
    ] = False,
    *,
    given: dict[str, Any],
) -> None:
    """Rent a machine for one run, test an upload, copy the payload there, start the run.

    Rejected before anything is rented: a matrix with faults, no rehearsal with predictions, a cost above the cap.
    """
    settings, whole = _settings(given), matrices.read_matrix(file)
    cell = next((one for one in matrices.matrix_cells(whole) if one.id == only), None)
    if cell is None:
        raise UsageError(
            f"--only {only}: not a run of the matrix", fix=", ".join(c.id for c in matrices.matrix_cells(whole))
        )
    hours, cap = _hours(settings, whole, cell), settings.cap or whole.budget.usd
    if hours is None or cap is None:
        raise UsageError("neither the matrix nor a flag gives hours and USD", fix="--hours H --cap USD")
    lane = _lane()
    with tempfile.TemporaryDirectory(prefix="thunder-gpu-") as scratch:
        order = _order(settings, whole, cell, hours, cap, Path(scratch) / "project")
        gates = _gates(file, whole, cell)
        if yes and not any(gates.values()):
            checkout.export_checkout(REPOSITORY, Path(scratch) / "project")
        number = rental_lane.launch_rental(lane, order, gates, rental_offers.offer_query(settings), Path(scratch), yes)
    if number is not None:
        say(f"{order.run}: started on machine {number}; next: thunder gpu watch {order.run}")


@app.command()
def watch(
    run: Annotated[str | None, typer.Argument(help="Name of the run (default: list all).")] = None,
) -> None:
    """Watch a run to its end, copy it, verify the copy, release the machine. Ctrl-C stops watching, not the run."""
    if run is not None:
        return say(f"{run}: {rental_lane.follow_rental(_lane(), run)}; the copy is complete, the machine is released")
    ledger = RentalLedger(runs())
    for label, one in ledger.open_rentals().items():
        state = "stopped" if "stopped" in one else "started" if "started" in one else "ordered"
        say(f"{one.get('run', '?'):48} {state:8} machine {one.get('id', '?')}  {label}")
    say(f"{len(ledger.open_rentals())} rented, {ledger.spent_usd():.2f} USD spent in total")


@app.command()
def sync(run: RunName) -> None:
    """Copy a run from its machine and verify the copy; exit code 4 if it is incomplete."""
    from thunder.errors import ArtifactError, combined_error

    if faults := rental_lane.sync_rental(_lane(), run):
        raise combined_error(
            ArtifactError, f"{run}: the copy is incomplete:", faults, "repeat when the run has ended", shown=5
        )
    say(f"{run}: the copy is complete; next: thunder gpu destroy {run}")


@app.command()
def destroy(
    run: RunName,
    force: Annotated[bool, typer.Option("--force", help="Release it even if files there were not copied.")] = False,
) -> None:
    """Release a run's machine; rejected while no complete copy of the run is here."""
    rental_lane.destroy_rental(_lane(), run, force)
    say(f"{run}: the machine is released; no machine with its label is left")


def _settings(given: dict[str, Any]) -> RentalSettings:
    return build_settings(RentalSettings, [SettingsLayer("command line", given)])[0]


def _lane() -> RentalSession:
    return RentalSession(VastClient(os.environ), RentalLedger(runs()), runs(), bundle.bundle_faults, say)


def _hours(settings: RentalSettings, whole: Matrix, cell: MatrixCell) -> float | None:
    return settings.hours or cell.run.hours or whole.estimate.hours


def _gates(file: Path, whole: Matrix, cell: MatrixCell) -> dict[str, str]:
    """Return the conditions that must hold before money is spent; an empty text means that the condition holds."""
    findings = matrix_command.findings(whole, file)
    ledger = MatrixLedger(runs(), whole)
    note = ledger.folder / "rehearsals" / f"{cell.condition[:16]}.json"
    rehearsed = note.is_file() and json_object(note, []).get("condition") == cell.condition
    return {
        "matrix": "; ".join(one.said for one in findings),
        "rehearsal": "" if rehearsed else f"no rehearsal of {cell.run.id} left predictions: thunder matrix run {file}",
    }


def _order(
    settings: RentalSettings, whole: Matrix, cell: MatrixCell, hours: float, cap: float, project: Path
) -> RentalOrder:
    """Build the order: the run's command with the payload's paths on the rented machine."""
    name, options, payload = matrices.folder_name(whole, cell), dict(cell.options), [str(project), *settings.upload]
    for key in PATHS:
        if value := options.get(key):
            options[key] = _each(value, lambda path: f"{PAYLOAD_FOLDER}/{Path(path).name}")
            payload += [value] if isinstance(value, str) else list(value)
            payload += [value + FROZEN] if key == "hypothesis" else []
    argv = ["./launch.sh", "asr", "train", *matrices.cell_arguments(options), "--run-name", name, "--ranks", "1"]
    label = rental_lane.new_rental_label(name)
    return RentalOrder(name, label, argv, hours, cap, settings.image, settings.disk_gb, tuple(payload))


def _each(value: Any, change: Callable[[str], str]) -> Any:
    return [change(str(each)) for each in value] if isinstance(value, list) else change(str(value))

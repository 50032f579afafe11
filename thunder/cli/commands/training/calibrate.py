"""`thunder calibrate`: measure how fast this machine computes, for the check of shapes."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from thunder.cli.console.output import say
from thunder.cli.parsing.flags import DryRun
from thunder.launcher.options.setting_paths import state_folder
from thunder.runs.records import environment
from thunder.training.shapes import chips
from thunder.units import format_count, format_path

app = typer.Typer(add_completion=False)
UNITS = {"bandwidth": "B/s"}
VERSIONS = ("python", "thunder", "mlx")


@app.command()
def calibrate(
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was measured as JSON.")] = False,
) -> None:
    """Measure matrix products, attention and memory on this machine and keep the figures for its chip.

    `thunder shapes` and the check before a run use them in place of published ones.
    """
    name = environment.chip_name()
    path = state_folder() / chips.CHIPS_FILE
    if dry_run:
        say(json.dumps({"chip": name, "file": str(path)}) if as_json else f"would measure {name}, kept in {path}")
        return
    from thunder.training.shapes import calibration

    measured = []
    for each in calibration.measure_rates():
        measured.append(each)
        if not as_json:
            rate = f"{format_count(each.rate)}{UNITS.get(each.kind, 'multiply-adds/s')}"
            say(f"{each.kind:10} {each.size:26} {rate}")
    before = chips.published_chips().get(name)
    operations, megabytes = (before.operations, before.megabytes) if before else (40, 40)
    source = f"measured on {time.strftime('%Y-%m-%d')}"
    chip = calibration.chip_from_measurements(name, measured, operations, megabytes, source)
    record: dict[str, Any] = {
        "versions": {key: value for key, value in environment.package_versions().items() if key in VERSIONS},
        "measurements": [asdict(each) for each in measured],
    }
    chips.save_measured_chip(state_folder(), chip, **record)
    say(json.dumps(asdict(chip) | record, ensure_ascii=False) if as_json else f"kept for {name} in {format_path(path)}")

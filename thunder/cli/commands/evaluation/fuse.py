"""`thunder fuse`: an adapter and its base as one model, measured against the adapter before it is kept."""

from __future__ import annotations

import json
from typing import Any

import typer

from thunder.cli.console.output import say
from thunder.cli.console.plan_and_progress import talk
from thunder.cli.parsing.flags import AsJson, flags
from thunder.config import SettingsLayer, build_settings
from thunder.evaluation.fusion_settings import FusionSettings
from thunder.launcher.options.setting_layers import COMMAND_LINE
from thunder.units import format_path

app = typer.Typer(add_completion=False)


@app.command()
@flags(FusionSettings)
def fuse(as_json: AsJson = False, *, given: dict[str, Any]) -> None:
    """Fuse an adapter into its base, with tokenizer and chat template; measured on rows, and refused where it loses.

    A quantized base is written with 16 or 32 bit weights unless --no-dequantize is given.
    """
    settings, _ = build_settings(FusionSettings, [SettingsLayer(COMMAND_LINE, given)])
    from thunder.evaluation.fusion import fuse_and_measure

    result = fuse_and_measure(settings, lambda text: talk.print(text, markup=False))
    if as_json:
        say(json.dumps(result.to_json()))
        return
    for name in ("base", "adapter", "fused"):
        measured = getattr(result, name)
        cer = "" if measured.cer is None else f", CER {measured.cer:.4f}"
        say(f"  {name:8} {measured.nats:.4f} nats per token{cer}")
    lost = result.lost_share
    gain = "the adapter gains nothing on these rows" if lost is None else f"{max(0.0, lost):.1%} of the gain is lost"
    say(f"fused on {result.rows} rows measured, {gain}: {format_path(result.folder)}")

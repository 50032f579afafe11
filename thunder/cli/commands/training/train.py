"""`thunder train` (also `launch`, which ./launch.sh calls): LoRA training on a cluster."""

from __future__ import annotations

from typing import Any

import typer

from thunder.cli.console.job_output import COMMAND_LINE, TerminalConsole, run_or_show
from thunder.cli.parsing.flags import AsJson, ConfigFile, DryRun, flags
from thunder.launcher.job_kinds import plan_train
from thunder.launcher.options.mlx_lm_options import FLAGS
from thunder.lora.lora_settings import LoraSettings

FLAGS_PANEL = "Understood from mlx_lm.lora"

app = typer.Typer(add_completion=False)


@app.command()
@flags(LoraSettings, FLAGS, FLAGS_PANEL)
def train(
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    *,
    given: dict[str, Any],
) -> None:
    """Train a LoRA adapter: data-parallel over the cluster's ranks, then test base against adapter.

    With no --model and no --data it trains the tiny Gemma that is shipped here on the sample corpus, offline.
    """
    run_or_show(plan_train(given, config, TerminalConsole(), COMMAND_LINE), dry_run=dry_run, as_json=as_json)

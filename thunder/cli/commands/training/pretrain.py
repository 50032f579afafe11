"""`thunder pretrain`: the tiny base model from open text."""

from __future__ import annotations

from typing import Any

import typer

from thunder.cli.console.job_output import COMMAND_LINE, TerminalConsole, run_or_show
from thunder.cli.parsing.flags import AsJson, ConfigFile, DryRun, flags
from thunder.launcher.job_kinds import plan_pretrain
from thunder.lora.lora_settings import PretrainSettings

app = typer.Typer(add_completion=False)


@app.command()
@flags(PretrainSettings)
def pretrain(
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    *,
    given: dict[str, Any],
) -> None:
    """Pretrain the tiny Gemma from scratch: plain text, and copying and repairing in the chat format."""
    run_or_show(plan_pretrain(given, config, TerminalConsole(), COMMAND_LINE), dry_run=dry_run, as_json=as_json)

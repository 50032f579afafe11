"""`thunder mlx_lm.lora`: a line of mlx_lm.lora as it is, run here."""

from __future__ import annotations

from typing import Any

import typer

from thunder.cli.commands.training.train import FLAGS_PANEL
from thunder.cli.console.job_output import TerminalConsole, run_or_show
from thunder.cli.parsing.flags import AsJson, ConfigFile, DryRun, flags
from thunder.config import load_yaml
from thunder.errors import UsageError
from thunder.launcher.job_kinds import plan_train
from thunder.launcher.options.mlx_lm_options import FLAGS
from thunder.launcher.options.setting_layers import MLX_LM_LINE
from thunder.lora.lora_settings import LoraSettings

app = typer.Typer(add_completion=False)


@app.command()
@flags(LoraSettings, FLAGS, FLAGS_PANEL)
def mlx_lm_lora(
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    *,
    given: dict[str, Any],
) -> None:
    """Train as `thunder train` does, with the options of a line of mlx_lm.lora; the plan names what differs."""
    wanted = load_yaml(config) | given if config else given
    if wanted.get("test") and not wanted.get("train"):
        model, rows = wanted.get("model", "MODEL"), f"{wanted.get('data', 'DATA')}/test.jsonl"
        raise UsageError(
            "--test without --train: mlx_lm.lora then tests an adapter, which is another command here",
            fix=f"./launch.sh eval --model {model} --adapter-path {wanted.get('adapter_path', 'adapters')} "
            f"--rows {rows}",
        )
    run_or_show(plan_train(given, config, TerminalConsole(), MLX_LM_LINE), dry_run=dry_run, as_json=as_json)

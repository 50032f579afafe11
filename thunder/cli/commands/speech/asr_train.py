"""`thunder asr train`: a CTC head over frozen features, on a cluster."""

from __future__ import annotations

from typing import Any

from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.cli.console.job_output import COMMAND_LINE, TerminalConsole, run_or_show
from thunder.cli.parsing.flags import AsJson, ConfigFile, DryRun, flags
from thunder.launcher.job_kinds import plan_recognizer


@flags(AcousticSettings)
def train(
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    *,
    given: dict[str, Any],
) -> None:
    """Train a CTC head over frozen features, in any mode of docs/explanation/modes.md, and test its best checkpoint."""
    run_or_show(plan_recognizer(given, config, TerminalConsole(), COMMAND_LINE), dry_run=dry_run, as_json=as_json)

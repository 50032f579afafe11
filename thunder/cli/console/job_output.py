"""Show a planned job and run it: what `train`, `pretrain`, `asr train` and `resume` have in common."""

from __future__ import annotations

import json

from thunder.api.run_training import run_training
from thunder.cli.console.plan_and_progress import TerminalConsole, print_plan, print_result
from thunder.launcher.job_runner import PlannedJob
from thunder.launcher.options.setting_layers import COMMAND_LINE

__all__ = ["COMMAND_LINE", "TerminalConsole", "run_or_show"]


def run_or_show(planned: PlannedJob, *, dry_run: bool, as_json: bool) -> None:
    """Print the plan and end, or run the job and print its result. Raises the ThunderError that the run failed with."""
    if dry_run:
        if as_json:
            print(json.dumps(planned.plan.to_json(), ensure_ascii=False, indent=4))
        else:
            print_plan(planned.plan)
        return
    # a run that a person watches has the supervisor, with one rank too
    result = run_training(planned, in_process=False, console=TerminalConsole())
    if as_json:
        print(json.dumps({"run": planned.folder.name, **result.results}, ensure_ascii=False))
    else:
        print_result(planned.plan, planned.folder, result.results)

"""`thunder promote`: check whether a result can be published."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from thunder import digest
from thunder.cli.console.output import say
from thunder.errors import GateError
from thunder.evaluation.claims import promotion
from thunder.launcher.runs_folder import run_folder
from thunder.units import format_path

app = typer.Typer(add_completion=False)
PROMOTION_FILE = "promotion.json"


@app.command()
def promote(
    claim: Annotated[Path, typer.Option(help="The claim (JSON or YAML); docs/how-to/promote-a-claim.md has one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Judge every criterion of a claim, and write promotion.json beside it; exit code 3: not promoted.

    No flag skips a criterion.
    """
    decision = promotion.judge_claim(claim, lambda name: _find_folder(claim.parent, name))
    content = asdict(decision)
    beside = claim.with_name(f"{claim.stem}.{PROMOTION_FILE}")
    digest.write_json(beside, content)
    if as_json:
        say(json.dumps(content, ensure_ascii=False, indent=4))
        raise typer.Exit(0 if decision.promoted else GateError.exit_code)
    for one in decision.criteria:
        say(f"{'holds' if one.holds else 'FAILS':6} {one.name:15} {one.said}")
    say(f"{decision.decision}\n{format_path(beside)}")
    if not decision.promoted:
        failed = [one.name for one in decision.criteria if not one.holds]
        raise GateError(f"{decision.claim}: {decision.decision}", fix=f"correct these criteria: {', '.join(failed)}")


def _find_folder(here: Path, name: str) -> Path:
    return (here / name).resolve() if (here / name).is_dir() else run_folder(name)

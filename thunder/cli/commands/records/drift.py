"""`thunder drift A B`: can two runs be compared, and if not, why not?"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from thunder.cli.console.output import say
from thunder.errors import GateError
from thunder.launcher.runs_folder import run_folder
from thunder.runs.compare import drift_report as judge
from thunder.runs.compare import run_facts

app = typer.Typer(add_completion=False)
Run = Annotated[str, typer.Argument(help="A run: id, folder, or 'latest'.", show_default=False)]


@app.command()
def drift(
    a: Run,
    b: Run,
    allow: Annotated[list[str] | None, typer.Option(help="Options that may differ, with commas: lr,mode.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Say in what two runs differ, by their options and by their logs; exit code 3 where they cannot be compared."""
    names = [name for each in allow or [] for name in each.split(",") if name.strip()]
    facts_a, facts_b = run_facts.read_run_facts(run_folder(a)), run_facts.read_run_facts(run_folder(b))
    judge.refuse_unknown_factors(names, facts_a, facts_b)
    report = judge.compare_runs(facts_a, facts_b, names)
    if as_json:
        factors = [finding.name for finding in report.factors]
        say(json.dumps(asdict(report) | {"factors": factors}, ensure_ascii=False, indent=4))
        raise typer.Exit(GateError.exit_code if report.factors else 0)
    _print_drift(report)
    if report.verdict == "not_comparable":
        factor_names = ",".join(finding.name for finding in report.factors)
        raise GateError(
            report.sentence, fix=f"repeat one with the other's values, or allow them: --allow {factor_names}"
        )


def _print_drift(report: judge.Drift) -> None:
    for finding in report.findings:
        mark = "allowed" if finding.allowed else "FACTOR" if finding.is_factor else "warning"
        say(f"{mark:8} {finding.kind:12} {finding}")
    say(f"{report.verdict}: {report.sentence}")

"""`thunder status`, `thunder_status`: check a cluster's hosts and the cables between them, each fault with its fix."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from thunder import digest
from thunder.cli.console.plan_and_progress import print_findings
from thunder.cluster.health import cluster_status
from thunder.cluster.inventory import cluster_file
from thunder.errors import ClusterError, ThunderError, UsageError
from thunder.launcher import job_runner, remote_checks
from thunder.runs.records import registry
from thunder.units import Seconds, format_path, format_seconds

app = typer.Typer(add_completion=False)
RUNS_SHOWN = 5
STATUS_TIMEOUT = Seconds(15)  # for the whole command, the smoke test of --smoke included


@app.command(name="status")
def show_status(
    cluster: Annotated[str | None, typer.Option("--cluster", help="A cluster's name, or a cluster file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all answers and findings as JSON.")] = False,
    watch: Annotated[
        float | None, typer.Option("--watch", metavar="SECONDS", min=1, help="Repeat at this interval, until Ctrl-C.")
    ] = None,
    hostfile: Annotated[
        Path | None, typer.Option("--hostfile", help="Also write the cluster as mlx's hostfile (JSON).")
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="If nothing fails, start a rank on every host and sum over them.")
    ] = False,
) -> None:
    """Check every host and its links; ends within 15 s, with exit code 6 if anything fails."""
    if smoke and watch:
        raise UsageError("--smoke starts ranks and --watch repeats the check", fix="remove one of them")
    choice = cluster_file.choose_cluster(cluster, os.environ, Path.home())
    if hostfile:
        digest.write_json(hostfile, cluster_file.to_hostfile(choice.cluster))
    report: dict[str, Any] | None = None
    try:
        while True:
            report = cluster_status.check_cluster(choice.cluster)
            report["runs"] = [asdict(run) for run in registry.recent_runs(job_runner.runs(), RUNS_SHOWN)]
            if smoke and report["healthy"]:
                report["smoke"] = smoke_test(choice.cluster, Seconds(STATUS_TIMEOUT - report["seconds"] - 1))
            if as_json:  # one line per check while watching
                print(json.dumps(report, ensure_ascii=False, indent=None if watch else 4), flush=True)
            else:
                print_status(report, choice.reason, clear=bool(watch))
            if not watch:
                break
            time.sleep(watch)
    except KeyboardInterrupt:
        if report is None:
            raise
    if not report["healthy"] or not report.get("smoke", {}).get("right", True):
        raise typer.Exit(ClusterError.exit_code)


def smoke_test(cluster: cluster_file.Cluster, deadline: Seconds) -> dict[str, Any]:
    """Check that a sum over one rank on every host is right, and measure its time; otherwise return the fault."""
    try:
        return remote_checks.check_ring_sums(cluster, deadline)
    except ThunderError as error:
        return {"right": False, "fault": error.message, "fix": error.fix}


def print_status(report: dict[str, Any], reason: str, clear: bool = False) -> None:
    """Print the report for people on stdout."""
    console = Console(highlight=False)
    if clear and console.is_terminal:
        console.clear()
    console.print(f"cluster {report['cluster']} ({reason})\n", markup=False, soft_wrap=True)
    for line in cluster_status.draw_cluster(report):
        console.print(line, markup=False, soft_wrap=True)
    console.print()
    print_findings(console, report["findings"])
    failures = sum(finding["state"] == "failure" for finding in report["findings"])
    verdict = "healthy" if report["healthy"] else f"{failures} failure{'' if failures == 1 else 's'}"
    console.print(f"\n{verdict}; took {report['seconds']:.1f} s", markup=False)
    for line in [*smoke_lines(report.get("smoke")), *run_lines(report["runs"], time.time())]:
        console.print(line, markup=False, soft_wrap=True)


def smoke_lines(smoke: dict[str, Any] | None) -> list[str]:
    """Format the result of the smoke test, if there was one."""
    if smoke is None:
        return []
    if smoke["right"]:
        return [f"smoke: all_sum over {smoke['ranks']} ranks right, {smoke['seconds'] * 1000:.1f} ms"]
    fault = smoke.get("fault") or f"all_sum over {smoke.get('ranks')} ranks is wrong"
    return [f"smoke: failure: {fault}", *([f"  to fix: {smoke['fix']}"] if smoke.get("fix") else [])]


def run_lines(runs: list[dict[str, Any]], now: float) -> list[str]:
    """Format the runs on this machine, one line each."""
    lines = ["", f"runs in {format_path(job_runner.runs())}:"] if runs else []
    for run in runs:
        parts = [f"{run['state']:8} {run['name']}"]
        if run["step"] is not None:
            parts.append(f"step {run['step']}/{run['steps'] if run['steps'] is not None else '?'}")
        parts += [f"{name} {run[key]:.4f}" for name, key in (("loss", "loss"), ("CER", "cer")) if run[key] is not None]
        if run["updated"]:
            parts.append(f"{format_seconds(max(0.0, now - run['updated']))} ago")
        lines.append("  ".join([*parts, *([f"({run['why']})"] if run["why"] else [])]))
    return lines

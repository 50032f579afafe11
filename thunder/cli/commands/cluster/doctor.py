"""`thunder doctor`: check whether this machine is ready; one line per check, each failure with its fix."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from thunder.cli.console.plan_and_progress import print_findings
from thunder.cluster.health.preflight import Finding, FindingState
from thunder.cluster.inventory import cluster_file, openblas, ports
from thunder.config import REPOSITORY
from thunder.errors import ClusterError, ThunderError
from thunder.lora import base_model
from thunder.lora.lora_settings import EMBEDDED_DATA, EMBEDDED_MODEL
from thunder.runs.records import environment
from thunder.units import format_bytes, format_path

app = typer.Typer(add_completion=False)
DISK_RECOMMENDED = 5e9  # bytes; about what a 4-bit gemma-4-e2b needs; a small run needs far less


HOST_NAME = platform.node() or "this machine"


def local_finding(check: str, state: FindingState, found: str, fix: str = "") -> Finding:
    """Return a finding about this machine."""
    return Finding(check, state, HOST_NAME, found, fix)


def check_python() -> Finding:
    """Check for Python 3.11 or newer."""
    version = f"{platform.python_version()} ({format_path(Path(sys.executable))})"
    fine = sys.version_info >= (3, 11)
    return local_finding(
        "python", "ok" if fine else "failure", version, "" if fine else "rm -rf .venv && ./launch.sh setup"
    )


def check_packages() -> Finding:
    """Check every package that a result depends on."""
    versions = environment.package_versions()
    absent = [name for name, version in versions.items() if version.startswith("(")]
    if absent:
        return local_finding("packages", "failure", f"not installed: {', '.join(absent)}", "./launch.sh setup")
    return local_finding("packages", "ok", ", ".join(f"{name} {version}" for name, version in versions.items()))


def check_openblas() -> Finding:
    """Check for OpenBLAS on Linux."""
    if platform.system() != "Linux":
        return local_finding("BLAS", "ok", "macOS has its own")
    path = openblas.find_openblas(platform.system())
    if path is None:
        return local_finding(
            "BLAS", "warning", "OpenBLAS not found: training is 10-50 times slower", openblas.INSTALL_HINT
        )
    return local_finding("BLAS", "ok", str(path))


def check_model() -> Finding:
    """Check the base model and the sample rows that the package contains."""
    try:
        files = base_model.weight_files(EMBEDDED_MODEL)
    except ThunderError as error:
        return local_finding("tiny model", "failure", error.message, "git checkout -- data")
    if not (EMBEDDED_DATA / "train.jsonl").is_file():
        return local_finding("sample rows", "failure", f"{EMBEDDED_DATA}: no train.jsonl", "git checkout -- data")
    return local_finding(
        "tiny model", "ok", f"{format_path(EMBEDDED_MODEL)}, {format_bytes(sum(p.stat().st_size for p in files))}"
    )


def check_cluster() -> Finding:
    """Check the cluster that a command would use."""
    try:
        choice = cluster_file.choose_cluster(None, os.environ, Path.home())
    except ThunderError as error:
        return local_finding("cluster", "failure", error.message, error.fix)
    return local_finding("cluster", "ok", f"{choice.cluster.name}, {len(choice.cluster.hosts)} ranks ({choice.reason})")


def check_ports() -> Finding:
    """Check for free ports on loopback."""
    try:
        ports.free_ports(2)
    except ClusterError as error:
        return local_finding("ports", "failure", error.message, error.fix)
    return local_finding("ports", "ok", "free ones on loopback")


def check_disk() -> Finding:
    """Check free disk space for runs."""
    free = shutil.disk_usage(REPOSITORY).free
    fine = free > DISK_RECOMMENDED
    return local_finding(
        "disk", "ok" if fine else "warning", f"{format_bytes(free)} free", "" if fine else "delete old folders in runs/"
    )


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_packages,
    check_openblas,
    check_model,
    check_cluster,
    check_ports,
    check_disk,
)


def run_checks() -> Iterator[Finding]:
    """Yield the finding of each check."""
    for check in CHECKS:
        yield check()


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False) -> None:
    """Check this machine; exit code 6 if something must be fixed first."""
    findings = list(run_checks())
    if as_json:
        print(json.dumps([asdict(each) for each in findings], ensure_ascii=False, indent=4))
    else:
        print_findings(Console(highlight=False), map(asdict, findings))
    if any(each.state == "failure" for each in findings):
        raise typer.Exit(ClusterError.exit_code)

"""`thunder status`, `thunder_status`: the hosts of a cluster and the cable between them, each fault with its fix."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from thunder.cli.screen import print_findings
from thunder.cluster import hosts, status
from thunder.errors import ClusterError

app = typer.Typer(add_completion=False)


@app.command(name="status")
def show(
    cluster: Annotated[str | None, typer.Option("--cluster", help="A cluster's name, or a cluster file.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all that was read, and the findings, as JSON.")
    ] = False,
    watch: Annotated[
        float | None, typer.Option("--watch", metavar="SECONDS", min=1, help="Look again every so often, until Ctrl-C.")
    ] = None,
) -> None:
    """Ask every host how it and its links are; ends within 15 s, with exit code 6 where anything fails."""
    choice = hosts.choose(cluster, os.environ, Path.home())
    said: dict[str, Any] | None = None
    try:
        while True:
            said = status.check(choice.cluster)
            if as_json:  # one line a look while watching
                print(json.dumps(said, ensure_ascii=False, indent=None if watch else 4), flush=True)
            else:
                draw(said, choice.reason, clear=bool(watch))
            if not watch:
                break
            time.sleep(watch)
    except KeyboardInterrupt:
        if said is None:
            raise
    if not said["healthy"]:
        raise typer.Exit(ClusterError.exit_code)


def draw(said: dict[str, Any], reason: str, clear: bool = False) -> None:
    """The report for people, on stdout."""
    console = Console(highlight=False)
    if clear and console.is_terminal:
        console.clear()
    console.print(f"cluster {said['cluster']} ({reason})\n", markup=False, soft_wrap=True)
    for line in status.picture(said):
        console.print(line, markup=False, soft_wrap=True)
    console.print()
    print_findings(console, said["findings"])
    failures = sum(finding["state"] == "failure" for finding in said["findings"])
    verdict = "healthy" if said["healthy"] else f"{failures} failure{'' if failures == 1 else 's'}"
    console.print(f"\n{verdict}; asked for {said['seconds']:.1f} s", markup=False)

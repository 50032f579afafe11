"""`thunder agent`: started by the launcher over SSH on another host; not for people."""

from __future__ import annotations

import signal
import sys

import typer

from thunder.cluster.ranks import agent

app = typer.Typer(add_completion=False)


@app.command(name="agent")
def agent_command() -> None:
    """Start one rank here for a launcher at the other end of stdin and stdout."""
    # a closed terminal shows as the end of stdin; the agent then ends the rank before itself
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise typer.Exit(agent.serve_rank(sys.stdin.fileno(), sys.stdout.fileno()))

"""What a command says on stdout, to a reader that may have gone: `thunder corpus ... | head -1` ends quietly."""

from __future__ import annotations

import os
import sys

import typer


def say(text: str) -> None:
    """Print a text. If nobody reads any more the command ends, as one that has said enough."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # what Python flushes at its own end must find no closed pipe either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None

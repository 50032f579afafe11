"""Print on stdout; the command ends quietly when the reader has closed the pipe (`thunder corpus ... | head -1`)."""

from __future__ import annotations

import os
import sys

import typer


def say(text: str) -> None:
    """Print a text. The command ends with code 0 when nobody reads any more."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python flushes stdout when it ends, and must not find the closed pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None

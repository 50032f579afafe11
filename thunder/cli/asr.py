"""`thunder asr`: train and test acoustic models."""

from __future__ import annotations

import typer

from thunder.cli.asr_eval import evaluate
from thunder.cli.asr_train import train

app = typer.Typer(help="Train and test acoustic models.", no_args_is_help=True)


@app.callback()
def asr() -> None:
    """Train and test acoustic models."""


app.command("train")(train)
app.command("eval")(evaluate)

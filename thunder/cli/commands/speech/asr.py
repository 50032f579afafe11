"""`thunder asr`: the recognizer's commands, from recordings to error rates."""

from __future__ import annotations

import typer

from thunder.cli.commands.speech.asr_eval import evaluate
from thunder.cli.commands.speech.asr_features import features, merge, verify
from thunder.cli.commands.speech.asr_ngram import ngram
from thunder.cli.commands.speech.asr_synthesize import synthesize
from thunder.cli.commands.speech.asr_train import train
from thunder.cli.commands.speech.asr_transcribe import transcribe

app = typer.Typer(help="Recognize speech.", no_args_is_help=True)


@app.callback()
def asr() -> None:
    """Recognize speech: features of recordings, training, transcripts, error rates."""


for command in (features, merge, verify, train, transcribe, ngram, synthesize):
    app.command()(command)
app.command("synthesise", hidden=True)(synthesize)  # the name before version 0.2
app.command("eval")(evaluate)

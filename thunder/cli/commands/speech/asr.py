"""`thunder asr`: the recogniser's commands, from recordings to error rates."""

from __future__ import annotations

import typer

from thunder.cli.commands.speech.asr_eval import evaluate
from thunder.cli.commands.speech.asr_features import features, merge, verify
from thunder.cli.commands.speech.asr_ngram import ngram
from thunder.cli.commands.speech.asr_synthesize import synthesise
from thunder.cli.commands.speech.asr_train import train
from thunder.cli.commands.speech.asr_transcribe import transcribe

app = typer.Typer(help="Recognise speech.", no_args_is_help=True)


@app.callback()
def asr() -> None:
    """Recognise speech: features of recordings, training, transcripts, error rates."""


for command in (features, merge, verify, train, transcribe, ngram, synthesise):
    app.command()(command)
app.command("eval")(evaluate)

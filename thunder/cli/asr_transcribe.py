"""`thunder asr transcribe`: what a trained head hears in recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from thunder.acoustic.settings import TranscribeSettings
from thunder.cli.asr_eval import checkpoint_of
from thunder.cli.options import flags
from thunder.cli.output import say
from thunder.config import Layer, build

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recordings.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON object for each recording.")]


@flags(TranscribeSettings)
def transcribe(files: Files, as_json: AsJson = False, *, given: dict[str, Any]) -> None:
    """Print the text of each recording, with the features that the checkpoint was trained on."""
    asked, _ = build(TranscribeSettings, [Layer("command line", given)])
    from thunder.acoustic import labels, transcribe, weights
    from thunder.acoustic.decoding import decoder_of
    from thunder.acoustic.recognise import Recogniser

    path = checkpoint_of(asked.run)
    loaded = weights.load(path)
    decode = decoder_of(asked, labels.ALPHABETS[loaded.origin.settings.script])
    source = transcribe.frontend_of(loaded, asked.model, str(path))
    recogniser = Recogniser.of(loaded, decode=decode)
    for row in transcribe.transcripts(loaded, recogniser, source, files, asked.batch_size):
        said = f"{row['audio']}: {row['text']}" + "".join(f" ({note})" for note in row["notes"])
        say(json.dumps(row, ensure_ascii=False) if as_json else said)

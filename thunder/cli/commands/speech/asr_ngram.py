"""`thunder asr ngram`: a character n-gram of a script, for decoding with a language model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from thunder.acoustic.decoding.ngram_training import NgramSettings, train_ngram
from thunder.cli.console.output import say
from thunder.cli.console.progress_bars import files_bar
from thunder.cli.parsing.flags import ConfigFile, flags
from thunder.config import build_settings
from thunder.launcher.options.setting_layers import file_and_flags

Texts = Annotated[list[Path] | None, typer.Argument(metavar="TEXT...", help="Files of text.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of lines.")]


@flags(NgramSettings)
def ngram(texts: Texts = None, config: ConfigFile = None, as_json: AsJson = False, *, given: dict[str, Any]) -> None:
    """Train a character n-gram on clean text, write it as an ARPA file and print its perplexity on held-out texts."""
    if texts:
        given = given | {"text": [*map(str, texts), *given.get("text", [])]}
    settings = build_settings(NgramSettings, file_and_flags(NgramSettings, config, given))[0]
    with files_bar([Path(path) for path in settings.text]) as progress:
        report = train_ngram(settings, progress)
    if as_json:
        return say(json.dumps({"out": settings.out, **report.as_dict()}, ensure_ascii=False, indent=4))
    orders = ", ".join(f"{count} {n}-grams" for n, count in enumerate(report.ngrams, start=1))
    say(f"{settings.out}: {orders} of {report.characters} characters in {report.texts} texts")
    if report.perplexity is not None:
        say(f"perplexity {report.perplexity:.3f} per character on {report.heldout_texts} held-out texts")
    for reason, times in report.left_out.items():
        say(f"  left out, {reason}: {times}")

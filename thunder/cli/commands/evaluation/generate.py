"""`thunder generate`: answer texts with the prompt that an adapter was trained with."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from thunder.cli.console.output import say
from thunder.cli.parsing.flags import AsJson, flags
from thunder.config import SettingsLayer, build_settings
from thunder.errors import UsageError
from thunder.evaluation.generation_settings import GenerationSettings
from thunder.launcher.options.setting_layers import COMMAND_LINE

app = typer.Typer(add_completion=False)

Texts = Annotated[
    list[str] | None, typer.Argument(help="Texts to answer; without one, each line of stdin.", show_default=False)
]


@app.command()
@flags(GenerationSettings)
def generate(texts: Texts = None, as_json: AsJson = False, *, given: dict[str, Any]) -> None:
    """Correct texts with an adapter; the prompt is the one of its training. One answer a line.

    --json prints for each text its answer, mean log-probability of a token (nats), and whether the answer ended.
    """
    settings, _ = build_settings(GenerationSettings, [SettingsLayer(COMMAND_LINE, given)])
    if not texts and sys.stdin.isatty():
        raise UsageError("no text to answer", fix="thunder generate --adapter-path A 'TEXT', or texts on stdin")
    for text in texts or ():
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise UsageError(f"{ascii(text)}: not UTF-8", fix="convert it: iconv -t utf-8")
    from thunder.api.generation import generate_answers

    for text, answer in generate_answers(texts or _lines_of_stdin(), settings):
        if as_json:
            told = {
                "input": text, "text": answer.text, "confidence": answer.confidence, "tokens": answer.tokens,
                "finished": answer.finished, "margin": answer.margin,
            }  # fmt: skip
            say(json.dumps(told, ensure_ascii=False))
        else:
            say(answer.text.replace("\n", " ") if not texts else answer.text)


def _lines_of_stdin() -> Iterator[str]:
    """The lines of stdin. Raises UsageError where one is not UTF-8."""
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            yield line.decode("utf-8").rstrip("\r\n").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise UsageError(f"stdin, line {number}: not UTF-8: {error}", fix="convert it: iconv -t utf-8") from None

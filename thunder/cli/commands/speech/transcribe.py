"""`thunder transcribe`: recordings to admissible text in one command; the rows of every stage are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from thunder.bridge.bridge_settings import SpeechSettings
from thunder.cli.console.output import say
from thunder.cli.console.plan_and_progress import talk
from thunder.cli.console.progress_bars import RecordingsBar
from thunder.cli.parsing.flags import AsJson, ConfigFile, flags
from thunder.config import build_settings
from thunder.errors import GateError
from thunder.launcher.options.setting_layers import file_and_flags
from thunder.units import format_path

app = typer.Typer(add_completion=False)

Files = Annotated[
    list[Path] | None, typer.Argument(help="Audio files, folders, metadata.jsonl files.", show_default=False)
]


@app.command()
@flags(SpeechSettings)
def transcribe(
    files: Files = None, config: ConfigFile = None, as_json: AsJson = False, *, given: dict[str, Any]
) -> None:
    """Recognize recordings, propose corrections with an adapter, apply the gate and sign the admissible texts.

    Exit code 3 if the gate stopped the whole batch: then every text is as recognized, and none is admissible.
    """
    if files:
        given = given | {"inputs": [*map(str, files), *given.get("inputs", [])]}
    settings, _ = build_settings(SpeechSettings, file_and_flags(SpeechSettings, config, given))
    from thunder.api.transcription import DECISIONS, transcribe_recordings

    with RecordingsBar() as progress:
        result = transcribe_recordings(settings, progress, lambda text: talk.print(text, markup=False))
    for line in result.lines:
        signed = "admissible" if line["token"] else "not admissible"
        say(json.dumps(line, ensure_ascii=False) if as_json else
            f"{line['audio']}\t{line['final_text']}\t{line['decision']}\t{signed}")  # fmt: skip
    talk.print(f"rows of every stage: {format_path(result.folder)}", markup=False)
    if result.breaker:
        where = result.folder / DECISIONS
        raise GateError(f"the batch was stopped: {result.breaker}", fix=f"read {where} before you use any text")
    if result.error:
        raise result.error

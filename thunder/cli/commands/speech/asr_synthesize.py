"""`thunder asr synthesize`: synthetic speech for Bambara sentences, to try the whole pipeline without recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from thunder.acoustic.synthesis.synthetic_speech import METADATA, SynthesisSettings, synthesize_speech
from thunder.cli.console.output import say
from thunder.cli.console.progress_bars import rows_bar
from thunder.cli.parsing.flags import ConfigFile, flags
from thunder.config import build_settings
from thunder.launcher.options.setting_layers import file_and_flags
from thunder.units import format_seconds

Texts = Annotated[list[Path] | None, typer.Argument(metavar="TEXT...", help="Files of Bambara.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of lines.")]


@flags(SynthesisSettings)
def synthesize(
    texts: Texts = None, config: ConfigFile = None, as_json: AsJson = False, *, given: dict[str, Any]
) -> None:
    """Speak sentences with espeak-ng into FLAC files with Latin and N'Ko text; every output is marked as synthetic."""
    if texts:
        given = given | {"text": [*map(str, texts), *given.get("text", [])]}
    settings = build_settings(SynthesisSettings, file_and_flags(SynthesisSettings, config, given))[0]
    with rows_bar(settings.sentences) as progress:
        record = synthesize_speech(settings, progress)
    if as_json:
        return say(json.dumps({"out": settings.out, **record}, ensure_ascii=False, indent=4))
    parts = ", ".join(f"{count} {part}" for part, count in sorted(record["parts"].items()))
    say(f"{settings.out}: {parts} sentences of SYNTHETIC speech, {format_seconds(record['seconds'])}")
    for reason, times in record["left_out"].items():
        say(f"  left out, {reason}: {times}")
    say(f"next: thunder asr features {Path(settings.out) / METADATA} --features logmel --out {settings.out}-logmel")

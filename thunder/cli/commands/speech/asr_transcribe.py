"""`thunder asr transcribe`: audio files to text, by a trained head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from thunder import digest
from thunder.acoustic.acoustic_settings import TranscribeSettings
from thunder.api.recognition import recognize_recordings
from thunder.cli.console.output import say
from thunder.cli.console.plan_and_progress import talk
from thunder.cli.console.progress_bars import RecordingsBar
from thunder.cli.parsing.flags import AsJson, flags
from thunder.config import SettingsLayer, build_settings
from thunder.launcher.options import setting_paths

Files = Annotated[
    list[Path] | None, typer.Argument(help="Audio files, folders, metadata.jsonl files.", show_default=False)
]


@flags(TranscribeSettings)
def transcribe(files: Files = None, as_json: AsJson = False, *, given: dict[str, Any]) -> None:
    """Transcribe recordings with a trained head: print path, text and confidence of each, or write rows for the
    correction stage.
    """
    if files:
        given = given | {"inputs": [*map(str, files), *given.get("inputs", [])]}
    settings, _ = build_settings(TranscribeSettings, [SettingsLayer("command line", given)])
    if settings.out:
        setting_paths.check_writable(Path(settings.out).expanduser().parent)
    with RecordingsBar() as progress:
        result = recognize_recordings(settings, progress)
    for note in result.notes:
        talk.print(note, markup=False)
    if not result.error:
        for fault in result.left_out:
            talk.print(f"left out: {fault}", markup=False)
    rows = [dict(transcript.row) for transcript in result.transcripts]
    if settings.out:
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
        digest.write_atomically(Path(settings.out).expanduser(), "".join(lines))
    for row in rows:
        say(
            json.dumps(row, ensure_ascii=False)
            if as_json
            else f"{row['audio']}\t{row['asr_text']}\t{row['confidence']:.2f}"
        )
    if result.error:
        raise result.error

"""`thunder asr transcribe`: audio files to text, by a trained head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from thunder import digest
from thunder.acoustic.acoustic_settings import TranscribeSettings
from thunder.cli.commands.speech.asr_eval import checkpoint_of
from thunder.cli.console.output import say
from thunder.cli.console.plan_and_progress import talk
from thunder.cli.console.progress_bars import rows_bar
from thunder.cli.parsing.flags import AsJson, flags
from thunder.config import SettingsLayer, build_settings
from thunder.corpora.rows.jsonl_lines import LineFaults
from thunder.launcher.options import setting_paths

Files = Annotated[
    list[Path] | None, typer.Argument(help="Audio files, folders, metadata.jsonl files.", show_default=False)
]


@flags(TranscribeSettings)
def transcribe(files: Files = None, as_json: AsJson = False, *, given: dict[str, Any]) -> None:
    """Write down what a trained head hears in recordings: a line each, or rows for the correction that follows."""
    if files:
        given = given | {"inputs": [*map(str, files), *given.get("inputs", [])]}
    asked, _ = build_settings(TranscribeSettings, [SettingsLayer("command line", given)])
    if asked.out:
        setting_paths.check_writable(Path(asked.out).expanduser().parent)
    rows = heard(asked)
    if asked.out:
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
        digest.write_atomically(Path(asked.out).expanduser(), "".join(lines))
    for row in rows:
        say(json.dumps(row, ensure_ascii=False) if as_json else f"{row['audio']}\t{row['asr_text']}")


def heard(asked: TranscribeSettings) -> list[dict[str, Any]]:
    """The rows of all recordings.

    Raises CorpusError with every recording that cannot be heard, unless they may be left out: then they are told.
    """
    from thunder.acoustic import labels
    from thunder.acoustic.decoding.decoder import build_decoder
    from thunder.acoustic.features.recordings import Reader
    from thunder.acoustic.head import head_file
    from thunder.acoustic.inference import transcriber
    from thunder.acoustic.inference.recognizer import Recognizer

    path = checkpoint_of(asked.run)
    loaded = head_file.load_head(path)
    decoder = build_decoder(asked, labels.ALPHABETS[loaded.origin.settings.script])
    source = transcriber.build_front_end(asked, loaded.origin)
    reader = Reader()
    recordings = reader.read([Path(name).expanduser() for name in asked.inputs])
    faults: LineFaults = reader.faults
    recogniser = Recognizer.from_head(loaded, asked.ttt_lr, decoder)
    rows = []
    with rows_bar(len(recordings), "listening") as progress:
        for row in transcriber.transcribe_recordings(
            asked, recogniser, source, recordings, path.parent.name, faults.add
        ):
            rows.append(row)
            progress(1)
    if faults and not (asked.keep_going and rows):
        raise faults.error("recordings cannot be heard:", "mend these, or leave them out with --keep-going")
    for fault in faults.first:
        talk.print(f"left out: {fault}", markup=False)
    return rows

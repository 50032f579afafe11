"""Recognize speech from Python: recordings to text, by a trained head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from thunder.acoustic.acoustic_settings import TranscribeSettings
from thunder.api.python_options import FilePath, given_options, input_paths
from thunder.api.results import PYTHON, RecognitionResult, Transcript
from thunder.config import SettingsLayer, build_settings
from thunder.launcher.runs_folder import runs
from thunder.runs.records import run_record

OnRecording = Callable[[int, int], None]
"""Called with (recordings done, recordings in all)."""


def recognize(
    inputs: FilePath | Sequence[FilePath], *, on_recording: OnRecording = lambda done, total: None, **options: Any
) -> RecognitionResult:
    """Write down what a trained head hears in recordings; the same as `thunder asr transcribe`.

    Args:
        inputs: audio files, folders, metadata.jsonl files; or one of these.
        on_recording: called with (recordings done, recordings in all).
        **options: fields of `thunder.acoustic.acoustic_settings.TranscribeSettings`; `run` names the head.

    Returns:
        One transcript a recording.

    Raises:
        UsageError: there is no such run, or an option cannot be used.
        CorpusError: recordings cannot be read, and `keep_going` is not given.
        ArtifactError: the head's file is damaged.
    """
    given = given_options(options) | {"inputs": input_paths(inputs)}
    settings, _ = build_settings(TranscribeSettings, [SettingsLayer(PYTHON, given)])
    result = recognize_recordings(settings, on_recording)
    if result.error:
        raise result.error
    return result


def recognize_recordings(settings: TranscribeSettings, on_recording: OnRecording) -> RecognitionResult:
    """Recognize what the settings name; see `recognize`. One recording that cannot be read does not stop the others.

    Raises CorpusError if no recording can be read.
    """
    from thunder.acoustic import labels
    from thunder.acoustic.decoding.decoder import build_decoder
    from thunder.acoustic.features.recordings import RecordingReader
    from thunder.acoustic.head import head_file
    from thunder.acoustic.inference import transcriber
    from thunder.acoustic.inference.recognizer import Recognizer

    path = recognizer_checkpoint(settings.run)
    loaded = head_file.load_head(path)
    decoder = build_decoder(settings, labels.ALPHABETS[loaded.origin.settings.script])
    source = transcriber.build_front_end(settings, loaded.origin)
    reader = RecordingReader()
    recordings = reader.read([Path(name).expanduser() for name in settings.inputs])
    faults = reader.faults
    recognizer = Recognizer.from_head(loaded, settings.ttt_lr, decoder)
    rows = []
    for row in transcriber.transcribe_recordings(
        settings, recognizer, source, recordings, path.parent.name, faults.add
    ):
        rows.append(Transcript(row["feat_id"], row["audio"], row["asr_text"], row, row["confidence"]))
        on_recording(len(rows), len(recordings))
    error = faults.error("recordings cannot be heard:", "mend these, or leave them out with --keep-going")
    if faults and not rows:
        raise error
    stops = error if faults and not settings.keep_going else None
    return RecognitionResult(tuple(rows), tuple(faults.first), stops, tuple(reader.notes))


def recognizer_checkpoint(name: str) -> Path:
    """The checkpoint that a run's name, a run's folder or a file means. Raises UsageError where there is none."""
    from thunder.acoustic.inference.result_files import BEST

    path = Path(name).expanduser()
    return path if path.is_file() or path.suffix == ".safetensors" else run_record.find_run(runs(), name) / BEST

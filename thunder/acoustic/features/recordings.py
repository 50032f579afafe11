"""List recordings: rows of metadata.jsonl, folders of audio files, or single files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thunder.acoustic.features.audio import SUFFIXES
from thunder.corpora.rows.jsonl_lines import JsonLines, LineFault, LineFaults, kind_of_value, sound_object
from thunder.errors import CorpusError

METADATA = "metadata.jsonl"
# accepted names of each field, the preferred one first
_ALIASES = {
    "audio": ("audio", "path", "audio_path", "audio_filepath", "file", "file_name"),
    "id": ("id", "feat_id", "audio_id", "utterance_id"),
    "text": ("text", "transcript", "sentence"),
    "speaker": ("speaker", "speaker_id"),
    "split": ("split",),
    "sha256": ("sha256", "audio_sha256"),
}
_MAY_BE_NUMBERS = (*_ALIASES["id"], *_ALIASES["speaker"])


@dataclass(frozen=True, slots=True)
class Recording:
    """One audio file and its metadata. where: the row that named it, for messages."""

    id: str
    path: Path
    where: str
    text: str | None = None
    speaker: str | None = None
    split: str | None = None
    sha256: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class RecordingReader:
    """Reads lists of recordings, and collects unusable ones in `faults`."""

    def __init__(self) -> None:
        self.faults = LineFaults()
        self._sources_by_id: dict[str, str] = {}

    def read(self, inputs: Sequence[Path]) -> list[Recording]:
        """The recordings of files and folders, in their order. Raises CorpusError if there are none and no faults."""
        recordings = [recording for path in inputs for recording in self._read_path(path)]
        if not recordings and not self.faults:
            names = ", ".join(map(str, inputs)) or "no input"
            raise CorpusError(f"{names}: no recordings", f"give a {METADATA}, or a folder of audio files")
        return recordings

    def _read_path(self, path: Path) -> list[Recording]:
        if path.is_dir():
            if (path / METADATA).is_file():
                return self._read_rows(path / METADATA)
            files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            recordings = [self._read_file(file, file.relative_to(path).with_suffix("").as_posix()) for file in files]
        elif path.suffix.lower() in SUFFIXES:
            recordings = [self._read_file(path, path.stem)]
        else:
            return self._read_rows(path)
        return [recording for recording in recordings if recording]

    def _read_file(self, path: Path, name: str) -> Recording | None:
        return self._check_recording(Recording(name, path, str(path)))

    def _read_rows(self, path: Path) -> list[Recording]:
        recordings = []
        for number, line in JsonLines(path, self.faults):
            try:
                recording = _recording(sound_object(line), path, f"{path}:{number}")
            except LineFault as fault:
                self.faults.add(f"{path}:{number}: {fault}")
            else:
                recordings.append(self._check_recording(recording))
        return [recording for recording in recordings if recording]

    def _check_recording(self, recording: Recording) -> Recording | None:
        """The recording; None, and a fault in `faults`, if its id was already used or its file does not exist."""
        earlier = self._sources_by_id.setdefault(recording.id, recording.where)
        if earlier != recording.where:
            self.faults.add(f"{recording.where}: id {recording.id!r} was already used at {earlier}")
        elif not recording.path.is_file():
            self.faults.add(f"{recording.where}: there is no file {recording.path}")
        else:
            return recording
        return None


def _recording(fields: dict[str, Any], path: Path, where: str) -> Recording:
    """Parse one row. Raises LineFault."""
    values = {name: _text(fields, aliases) for name, aliases in _ALIASES.items()}
    if not values["audio"]:
        raise LineFault(f"names no recording: expected one of {', '.join(map(repr, _ALIASES['audio']))}")
    file = path.parent / values["audio"]
    if values["id"] == "":
        raise LineFault("its id is empty")
    return Recording(
        values["id"] or Path(values["audio"]).with_suffix("").as_posix(), file, where, values["text"],
        values["speaker"], values["split"], values["sha256"], fields,
    )  # fmt: skip


def _text(fields: dict[str, Any], names: Iterable[str]) -> str | None:
    """Remove the first non-null field of these names from a row and return it. Raises LineFault if it is not text."""
    for name in names:
        if (value := fields.pop(name, None)) is not None:
            if isinstance(value, int) and not isinstance(value, bool) and name in _MAY_BE_NUMBERS:
                return str(value)
            if not isinstance(value, str):
                raise LineFault(f"'{name}' is {kind_of_value(value)}, expected a text")
            return value
    return None


def input_digest(recordings: Iterable[Recording]) -> str:
    """SHA-256 of the metadata of all recordings: ids, texts and file names, but not folders."""
    sha256 = hashlib.sha256()
    for recording in recordings:
        values = [
            recording.id,
            recording.path.name,
            recording.text,
            recording.speaker,
            recording.split,
            recording.sha256,
            recording.extra,
        ]
        sha256.update(json.dumps(values, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return sha256.hexdigest()

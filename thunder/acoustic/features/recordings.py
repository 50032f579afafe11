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
# the names that a field goes by, ours first
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
        self._seen: dict[str, str] = {}

    def read(self, inputs: Sequence[Path]) -> list[Recording]:
        """The recordings of files and folders, in their order. Raises CorpusError if there are none and no faults."""
        found = [one for path in inputs for one in self._of(path)]
        if not found and not self.faults:
            names = ", ".join(map(str, inputs)) or "no input"
            raise CorpusError(f"{names}: no recordings", f"give a {METADATA}, or a folder of audio files")
        return found

    def _of(self, path: Path) -> list[Recording]:
        if path.is_dir():
            if (path / METADATA).is_file():
                return self._rows(path / METADATA)
            files = sorted(one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES)
            found = [self._file(one, one.relative_to(path).with_suffix("").as_posix()) for one in files]
        elif path.suffix.lower() in SUFFIXES:
            found = [self._file(path, path.stem)]
        else:
            return self._rows(path)
        return [one for one in found if one]

    def _file(self, path: Path, name: str) -> Recording | None:
        return self._kept(Recording(name, path, str(path)))

    def _rows(self, path: Path) -> list[Recording]:
        found = []
        for number, line in JsonLines(path, self.faults):
            try:
                one = _recording(sound_object(line), path, f"{path}:{number}")
            except LineFault as fault:
                self.faults.add(f"{path}:{number}: {fault}")
            else:
                found.append(self._kept(one))
        return [one for one in found if one]

    def _kept(self, one: Recording) -> Recording | None:
        """The recording, or a fault: its id stands already elsewhere, or its file is not there."""
        earlier = self._seen.setdefault(one.id, one.where)
        if earlier != one.where:
            self.faults.add(f"{one.where}: id {one.id!r} was already used at {earlier}")
        elif not one.path.is_file():
            self.faults.add(f"{one.where}: there is no file {one.path}")
        else:
            return one
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

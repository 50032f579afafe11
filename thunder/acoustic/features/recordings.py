"""List recordings: rows of manifests, folders of audio files, or single files."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from thunder.acoustic.features.audio import SUFFIXES, Audio, read_recording
from thunder.acoustic.manifests.kaldi_folder import WAV_SCP, read_kaldi_folder
from thunder.acoustic.manifests.manifest_folder import METADATA, ManifestSource, find_manifests
from thunder.acoustic.manifests.manifest_rows import read_manifest
from thunder.acoustic.manifests.recording_fields import USED_EXTRA, RecordingFields, Segment, parse_recording
from thunder.acoustic.sound_files.folder_listing import list_sound_files
from thunder.corpora.rows.jsonl_lines import LineFault, LineFaults
from thunder.errors import CorpusError

__all__ = ["Recording", "RecordingReader", "Segment", "input_digest", "load_recording", "summarize_recordings"]
_CLIPS = "clips"  # the folder of Common Voice's recordings, which its tables leave out


@dataclass(frozen=True, slots=True)
class Recording:
    """One audio file, or a segment of one, and its metadata. where: the row that named it, for messages.

    seconds: the length of the file that its row states.
    """

    id: str
    path: Path
    where: str
    text: str | None = None
    speaker: str | None = None
    split: str | None = None
    sha256: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    segment: Segment | None = None
    seconds: float | None = None


def load_recording(recording: Recording, channel: int | None = None) -> Audio:
    """The sound of a recording or of its segment. Raises CorpusError as `read_recording` does.

    channel: the one to use where the recording's row names none.
    """
    segment = recording.segment or Segment()
    if segment.offset or segment.duration is not None:
        times: dict[str, float | None] = {"offset": segment.offset, "duration": segment.duration}
    else:
        times = {"duration": recording.seconds}  # what its row states about the whole file
    return read_recording(recording.path, channel=channel if segment.channel is None else segment.channel, **times)


class RecordingReader:
    """Reads lists of recordings, collects unusable ones in `faults`, and remarks on inputs in `notes`."""

    def __init__(self) -> None:
        self.faults = LineFaults()
        self.notes: list[str] = []
        self._sources_by_id: dict[str, str] = {}

    def read(self, inputs: Sequence[Path]) -> list[Recording]:
        """The recordings of files and folders, in their order. Raises CorpusError if there are none and no faults."""
        named = [recording for path in inputs for recording in self._read_path(path)]
        if not named and not self.faults:
            names = ", ".join(map(str, inputs)) or "no input"
            remarks = "".join(f"\n  {note}" for note in self.notes)
            raise CorpusError(f"{names}: no recordings{remarks}", f"give a {METADATA}, or a folder of audio files")
        return [recording for recording in named if self._has_new_id(recording)]

    def _read_path(self, path: Path) -> Iterator[Recording]:
        if path.is_dir():
            yield from self._read_folder(path)
        elif path.suffix.lower() in SUFFIXES and not path.is_file():
            self.faults.add(f"{path}: there is no file {path}")
        elif path.suffix.lower() in SUFFIXES:
            yield Recording(path.stem, path, str(path))
        elif path.name == WAV_SCP:
            yield from self._read_rows(ManifestSource(path.parent), path.parent)
        else:
            yield from self._read_rows(ManifestSource(path), path.parent)

    def _read_folder(self, folder: Path) -> Iterator[Recording]:
        """The recordings of the folder's manifests; without one, its audio files, or its only file of rows."""
        sources, others = find_manifests(folder)
        files, passed_over = ([], Counter()) if sources else list_sound_files(folder, SUFFIXES, set(others))
        if passed_over and (files or not others):
            counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(passed_over.items()))
            self.notes.append(f"{folder}: files that are no recordings were passed over: {counts}")
        if not sources and not files and len(others) == 1:
            sources, others = [ManifestSource(others[0])], []
        if not sources and not files and others:
            names = ", ".join(path.name for path in others)
            raise CorpusError(f"{folder}: holds {len(others)} files of rows: {names}", "name one of them as the input")
        if others:
            names = ", ".join(path.name for path in others[:5]) + (", ..." if len(others) > 5 else "")
            self.notes.append(f"{folder}: {names} not read; to use their fields, name the file as the input")
        named_splits = {source.split for source in sources if source.split}
        for source in sources:
            # one split alone is the whole data set, which training may still divide
            yield from self._read_rows(source if len(named_splits) > 1 else replace(source, split=None), folder)
        stems = Counter(file.with_suffix("") for file in files)
        for file in files:
            # the suffix tells files of one name apart
            named = file.with_suffix("") if stems[file.with_suffix("")] == 1 else file
            yield Recording(named.relative_to(folder).as_posix(), file, str(file))

    def _read_rows(self, source: ManifestSource, root: Path) -> Iterator[Recording]:
        """The rows of a manifest. Ids of rows without one begin with the manifest's folder below `root`."""
        is_kaldi = source.path.is_dir()
        base = source.path if is_kaldi else source.path.parent
        rows = (read_kaldi_folder if is_kaldi else read_manifest)(source.path, self.faults)
        prefix = "" if base == root else base.relative_to(root).as_posix() + "/"
        parsed: list[tuple[str, RecordingFields, Path]] = []
        for where, fields in rows:
            try:
                row = parse_recording(fields)
                path = _find_audio(base, row.audio)
                if not path.is_file():
                    raise LineFault(f"there is no file {path}")
                parsed.append((where, row, path))
            except LineFault as fault:
                self.faults.add(f"{where}: {fault}")
        names = _default_ids([row for _, row, _ in parsed if row.id is None])
        for where, row, path in parsed:
            yield Recording(
                row.id or prefix + next(names), path, where, row.text, row.speaker,
                row.split or source.split, row.sha256, row.extra, row.segment, row.seconds,
            )  # fmt: skip

    def _has_new_id(self, recording: Recording) -> bool:
        """Whether no other recording has its id; if one has, a fault is added."""
        earlier = self._sources_by_id.setdefault(recording.id, recording.where)
        if earlier != recording.where:
            self.faults.add(f"{recording.where}: id {recording.id!r} was already used at {earlier}")
        return earlier == recording.where


def _default_ids(rows: Sequence[RecordingFields]) -> Iterator[str]:
    """An id for each row: never an absolute path, and no more of the path than is needed to tell files apart."""
    names = [row.default_id() for row in rows]
    if len(set(names)) < len(names) and any(os.path.isabs(row.audio) for row in rows):
        absolute = [os.path.dirname(row.audio) for row in rows if os.path.isabs(row.audio)]
        common = os.path.commonpath(absolute)
        names = [
            replace(row, audio=os.path.relpath(row.audio, common)).default_id() if os.path.isabs(row.audio) else name
            for row, name in zip(rows, names, strict=True)
        ]
    yield from names


def _find_audio(base: Path, name: str) -> Path:
    """The file of a row: relative to its manifest, or in the folder of Common Voice's clips."""
    path, clip = base / name, base / _CLIPS / name
    return clip if not path.is_file() and clip.is_file() else path


def summarize_recordings(recordings: Sequence[Recording]) -> dict[str, Any]:
    """How many recordings have a text, a speaker and a split, how many are segments, and the fields without a use."""
    fields = Counter(name for recording in recordings for name in recording.extra if name not in USED_EXTRA)
    return {
        "with_text": sum(bool(recording.text) for recording in recordings),
        "with_speaker": sum(recording.speaker is not None for recording in recordings),
        "with_split": sum(recording.split is not None for recording in recordings),
        "segments": sum(recording.segment is not None for recording in recordings),
        "fields_not_used": dict(sorted(fields.items())),
    }


def input_digest(recordings: Iterable[Recording]) -> str:
    """SHA-256 of the metadata of all recordings: ids, texts, segments and file names, but not folders."""
    sha256 = hashlib.sha256()
    for recording in recordings:
        values: list[Any] = [
            recording.id,
            recording.path.name,
            recording.text,
            recording.speaker,
            recording.split,
            recording.sha256,
            recording.extra,
        ]
        if recording.segment:
            segment = recording.segment
            values.append([segment.offset, segment.duration, segment.channel])
        sha256.update(json.dumps(values, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return sha256.hexdigest()

"""The fields of a row that names a recording, under the names that NeMo, Hugging Face, Common Voice and others use."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from thunder.corpora.rows.jsonl_lines import LineFault, kind_of_value

# accepted names of each field, the preferred one first
ALIASES = {
    "audio": ("audio", "path", "audio_path", "audio_filepath", "file", "file_name"),
    "id": ("id", "feat_id", "audio_id", "utterance_id"),
    "text": ("text", "transcript", "sentence", "transcription", "normalized_text"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "split": ("split",),
    "sha256": ("sha256", "audio_sha256"),
}
_MAY_BE_NUMBERS = (*ALIASES["id"], *ALIASES["speaker"])
# names of the start of a piece in its file, in seconds
_STARTS = ("offset", "start", "start_time")
_ENDS = ("end", "end_time")
# extra fields with a use: the piece, the texts in both scripts, and marks of the row
USED_EXTRA = frozenset((*_STARTS, *_ENDS, "duration", "channel", "text_nko", "text_latin", "synthetic"))


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a recording: offset and duration in seconds (None: to the end), channel (None: the mean of all)."""

    offset: float = 0.0
    duration: float | None = None
    channel: int | None = None

    def id_suffix(self) -> str:
        """Text that makes the id of a file the id of this piece: its times in milliseconds, as Kaldi writes them."""
        suffix = "" if self.channel is None else f"-ch{self.channel}"
        if self.duration is None and not self.offset:
            return suffix
        end = "end" if self.duration is None else f"{round((self.offset + self.duration) * 1000):07d}"
        return f"{suffix}-{round(self.offset * 1000):07d}-{end}"


@dataclass(frozen=True, slots=True)
class RecordingFields:
    """One row. audio: as it was written. id: None if the row has none. seconds: length of the file that it states."""

    audio: str
    id: str | None
    text: str | None
    speaker: str | None
    split: str | None
    sha256: str | None
    segment: Segment | None
    seconds: float | None
    extra: dict[str, Any] = field(default_factory=dict)

    def default_id(self) -> str:
        """The path of the audio without its suffix, never an absolute one; with the times of a segment."""
        path = PurePath(self.audio).with_suffix("")
        name = path.name if path.is_absolute() else path.as_posix()
        return name + (self.segment.id_suffix() if self.segment else "")


def parse_recording(fields: dict[str, Any]) -> RecordingFields:
    """Parse one row; fields with another meaning stay in `extra`. Raises LineFault."""
    fields = dict(fields)
    _unpack_audio(fields)
    values = {name: _text(fields, aliases) for name, aliases in ALIASES.items()}
    audio = values.pop("audio")
    if not audio:
        raise LineFault(f"names no recording: expected one of {', '.join(map(repr, ALIASES['audio']))}")
    if values["id"] == "":
        raise LineFault("its id is empty")
    segment, seconds = _segment(fields)
    return RecordingFields(audio, **values, segment=segment, seconds=seconds, extra=fields)


def _unpack_audio(fields: dict[str, Any]) -> None:
    """Replace `audio: {path: ...}`, as Hugging Face datasets write it, by the path. Raises LineFault without one."""
    audio = fields.get("audio")
    if isinstance(audio, dict) and audio.keys() & {"path", "bytes", "array"}:
        path = audio.get("path")
        if not isinstance(path, str) or not path:
            raise LineFault("'audio' holds the sound itself and no 'path'; save each sound as a file, and name it")
        fields["audio"] = path


def _segment(fields: dict[str, Any]) -> tuple[Segment | None, float | None]:
    """The piece that a row names, and the length that it states for the whole file. Raises LineFault."""
    start, end = _seconds(fields, _STARTS), _seconds(fields, _ENDS)
    duration, channel = _seconds(fields, ("duration",)), fields.get("channel")
    if channel is not None and (not isinstance(channel, int) or isinstance(channel, bool) or channel < 0):
        raise LineFault(f"'channel' is {channel!r}, expected a whole number from 0")
    if start is None and end is None:
        return (None if channel is None else Segment(channel=channel)), duration
    start = start or 0.0
    if end is not None:
        if end <= start:
            raise LineFault(f"it ends at {end:g} s and starts at {start:g} s")
        if duration is not None and abs(end - start - duration) > 0.01:
            raise LineFault(f"'duration' is {duration:g}, but start and end are {end - start:g} s apart")
        duration = end - start
    if duration == 0:
        raise LineFault("'duration' is 0: the piece holds no samples")
    return Segment(start, duration, channel), None


def _seconds(fields: dict[str, Any], names: Iterable[str]) -> float | None:
    """The first of these fields as seconds; it stays in the row. Text, as CSV has it, is read as a number."""
    for name in names:
        value = fields.get(name)
        if value is None or value == "":
            continue
        try:
            number = float("nan") if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not math.isfinite(number) or number < 0:
            raise LineFault(f"'{name}' is {value!r}, expected seconds from 0")
        return number
    return None


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

"""Read a sound file, or a segment of it, as samples of each channel at the file's own rate."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thunder.acoustic.sound_files import containers, mp3_frames, ogg_pages, wav_header
from thunder.acoustic.sound_files.sound_fault import COPY_AGAIN, sound_fault

MAX_SECONDS = 3600  # a recording is held in memory as a whole
DURATION_TOLERANCE = 0.1  # seconds; rows round durations, and encoders pad the last frame
_UNKNOWN = 1 << 50  # frames; libsndfile reports more for a stream of unknown length
_HEAD = 4096  # bytes
_BLOCK = 1 << 20  # frames read at once where the length is unknown
# in these a position is found exactly and without decoding what lies before it
_EXACT_SEEK = ("WAV", "WAVEX", "RF64", "FLAC", "AIFF", "W64", "AU")


@dataclass(frozen=True)
class Span:
    """A segment in seconds from the start of the file; end None: to the end of the file."""

    start: float = 0.0
    end: float | None = None


@dataclass(frozen=True)
class Sound:
    """samples: [S, C] float32 at `rate` Hz. file_seconds: length of the whole file. notes: unusual properties."""

    samples: np.ndarray
    rate: int
    file_seconds: float
    notes: tuple[str, ...] = ()


def read_sound(path: Path, span: Span | None = None) -> Sound:
    """Read the samples of a file. Raises CorpusError that names the file if it is missing, empty, not audio, truncated,
    too long, or shorter than the span.
    """
    size, head = _check_file(path)
    if container := containers.container_of(head):
        return _read_converted(path, container, span)
    if wav_header.is_wav(head):
        header = wav_header.check_wav(path, size, head)
        return _decode(path, header.repaired or path, span, header.notes, header.frames)
    if head[:4] == b"OggS":
        ogg_pages.check_ogg(path, size)
    elif mp3_frames.may_be_mp3(path, head):
        if mp3 := mp3_frames.check_mp3(path):
            return _decode(path, mp3.repaired or path, span, mp3.notes)
        if head[:3] != b"ID3" and head[:1] != b"\xff":
            raise sound_fault(path, "is not audio: it has no MP3 frames")
    return _decode(path, path, span)


def _check_file(path: Path) -> tuple[int, bytes]:
    """(bytes, the first bytes). Raises CorpusError if it is missing, a folder or empty."""
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise sound_fault(path, "is a folder, not a recording")
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError as error:
        raise sound_fault(path, error.strerror or str(error), "give paths that exist") from None
    if not size:
        raise sound_fault(path, "is empty: 0 bytes")
    return size, head


def _read_converted(path: Path, container: str, span: Span | None) -> Sound:
    with containers.converted(path, container) as wav:
        return _decode(path, wav, span, (f"was converted from {container}",))


def _decode(
    path: Path, source: Path | io.BytesIO, span: Span | None, notes: tuple[str, ...] = (), frames: int | None = None
) -> Sound:
    """Decode `source`, which has the sound of `path`. frames: number of them where the decoder pads the last block."""
    import soundfile

    try:
        with soundfile.SoundFile(source) as file:
            unknown = file.frames >= _UNKNOWN
            if unknown:
                notes = (*notes, wav_header.NO_LENGTH)
            else:
                total = min(file.frames, frames or file.frames)
                return _read_span(path, file, total, span, notes)
        # libsndfile can read these from the start only
        with _unseekable(soundfile)(source) as file:
            return _cut(path, _read_to_end(path, file), file.samplerate, span, notes)
    except soundfile.LibsndfileError as error:
        codec = containers.codec_of(path.open("rb").read(4)) if source is path else None
        if codec and "unsupported encoding" in error.error_string:
            return _read_converted(path, codec, span)
        raise sound_fault(path, f"is not audio that can be read, or is truncated: {error.error_string}") from None
    except soundfile.SoundFileError as error:
        raise sound_fault(path, f"cannot be read: {error}") from None


def _read_span(path: Path, file: Any, total: int, span: Span | None, notes: tuple[str, ...]) -> Sound:
    """Read an open file of `total` frames; seek where this is exact."""
    rate, seconds = file.samplerate, total / file.samplerate
    first, last = _limits(path, total, rate, span)
    if span is None or file.format not in _EXACT_SEEK:
        _check_length(path, total, rate)
        samples = _read_exactly(path, file, total)
        return Sound(samples[first:last], rate, seconds, notes)
    _check_length(path, last - first, rate)
    file.seek(first)
    return Sound(_read_exactly(path, file, last - first), rate, seconds, notes)


def _read_exactly(path: Path, file: Any, count: int) -> np.ndarray:
    samples = file.read(count, dtype="float32", always_2d=True)
    if len(samples) < count:
        raise sound_fault(path, f"is truncated: {len(samples)} of {count} samples are there", COPY_AGAIN)
    return samples


def _cut(path: Path, samples: np.ndarray, rate: int, span: Span | None, notes: tuple[str, ...]) -> Sound:
    first, last = _limits(path, len(samples), rate, span)
    return Sound(samples[first:last], rate, len(samples) / rate, notes)


def _limits(path: Path, total: int, rate: int, span: Span | None) -> tuple[int, int]:
    """(first frame, frame behind the last) of the span. Raises CorpusError if the file ends before."""
    if span is None:
        return 0, total
    end = total / rate if span.end is None else span.end
    if span.start < 0 or end <= span.start:
        raise sound_fault(path, f"its segment from {span.start:g} s to {end:g} s is empty", "correct its row")
    if end > total / rate + DURATION_TOLERANCE:
        reason = f"is {total / rate:.2f} s long, and its row states a segment from {span.start:g} s to {end:g} s"
        raise sound_fault(path, reason, "correct the row, or give it the file that it was made for")
    return round(span.start * rate), min(total, round(end * rate))


def _check_length(path: Path, frames: int, rate: int) -> None:
    if frames > MAX_SECONDS * rate:
        raise sound_fault(path, f"is {frames / rate:.0f} s long, more than {MAX_SECONDS} s", "split it into utterances")


def _read_to_end(path: Path, file: Any) -> np.ndarray:
    blocks: list[np.ndarray] = []
    while not blocks or len(blocks[-1]) == _BLOCK:
        blocks.append(file.read(_BLOCK, dtype="float32", always_2d=True))
        _check_length(path, sum(map(len, blocks)), file.samplerate)
    return np.concatenate(blocks)


def _unseekable(soundfile: Any) -> Any:
    """SoundFile that never seeks; it seeks after each read where libsndfile says that it can, and this fails."""

    class Unseekable(soundfile.SoundFile):
        def seekable(self) -> bool:
            return False

    return Unseekable

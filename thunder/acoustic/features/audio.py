"""Load a recording as mono audio at 16 kHz, with notes about unusual properties of the file."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thunder.acoustic.features.recipe import RATE
from thunder.errors import CorpusError

WINDOW_SECONDS = 30  # input length of Whisper
MAX_SECONDS = 3600  # a file is held in memory as a whole
SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".caf", ".au", ".w64")
# full scale: the largest 16-bit sample is 0.99997
_FULL, _CLIPPED_SHARE = 0.9999, 0.001
_UNKNOWN = 1 << 50  # frames; libsndfile reports more for a stream of unknown length
_ANY_LENGTH = (0, 0xFFFFFFFF)  # length field of a WAV that was written to a pipe
_OGG_PAGE = struct.Struct("<4sBBqIIIB")


@dataclass(frozen=True)
class Audio:
    """samples: [S] float32 at 16 kHz. clipped: share of the file's samples at full scale. notes: unusual properties."""

    samples: np.ndarray
    seconds: float
    clipped: float
    notes: tuple[str, ...]


def load_audio(path: Path) -> Audio:
    """Read FLAC, WAV, OGG, MP3 and other formats of libsndfile; average the channels and resample to 16 kHz.

    Raises CorpusError that names the file if it is missing, empty, not audio, truncated, too long or not finite.
    """
    import soundfile

    _check_file(path)
    try:
        with soundfile.SoundFile(path) as file:
            rate, channels, declared = file.samplerate, file.channels, file.frames
            if declared >= _UNKNOWN:  # libsndfile cannot read these to their end
                fix = "rewrite it to a file, for example with `ffmpeg -i OLD NEW.flac`"
                raise _audio_error(path, "does not state its length (it was probably written to a pipe)", fix)
            if declared > MAX_SECONDS * rate:
                raise _audio_error(
                    path, f"is {declared / rate:.0f} s long, more than {MAX_SECONDS} s", "split it into utterances"
                )
            frames = file.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise _audio_error(path, f"is not audio that can be read, or is truncated: {error.error_string}") from None
    if len(frames) < declared:
        raise _audio_error(path, f"is truncated: {len(frames)} of {declared} samples are there", "copy it again")
    if not len(frames):
        raise _audio_error(path, "is empty: it holds no samples")
    if not np.isfinite(frames).all():
        raise _audio_error(path, "has samples that are not finite")
    clipped = float((np.abs(frames) >= _FULL).mean())
    samples = resample_audio(frames.mean(1) if channels > 1 else frames[:, 0], rate)
    return Audio(samples, len(frames) / rate, clipped, _notes(samples, rate, channels, clipped))


def resample_audio(samples: np.ndarray, rate: int) -> np.ndarray:
    """Resample [S] float32 from `rate` Hz to 16 kHz."""
    if rate == RATE:
        return np.ascontiguousarray(samples, np.float32)
    import soxr

    # rounded up like frames; one more sample of the filter would add a window after 30 s
    return np.asarray(soxr.resample(samples, rate, RATE), np.float32)[: -(-len(samples) * RATE // rate)]


def split_windows(samples: np.ndarray) -> list[np.ndarray]:
    """Consecutive pieces of at most 30 s."""
    size = WINDOW_SECONDS * RATE
    return [samples[start : start + size] for start in range(0, max(1, len(samples)), size)]


def _notes(samples: np.ndarray, rate: int, channels: int, clipped: float) -> tuple[str, ...]:
    notes = []
    if channels == 2:
        notes.append("was stereo")
    elif channels > 2:
        notes.append(f"had {channels} channels")
    if rate != RATE:
        notes.append(f"was resampled from {rate} Hz")
    if clipped >= _CLIPPED_SHARE:
        notes.append("is clipped")
    if not samples.any():
        notes.append("is silent")
    return tuple(notes)


def _audio_error(path: Path, reason: str, fix: str = "repair the file, or exclude it with --keep-going") -> CorpusError:
    return CorpusError(f"{path}: {reason}", fix)


def _check_file(path: Path) -> None:
    """Detect faults that libsndfile ignores: an empty file, and truncated WAV and OGG files."""
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise _audio_error(path, "is a folder, not a recording")
        with path.open("rb") as stream:
            head = stream.read(12)
            stream.seek(max(0, size - 2 * 65536))
            tail = stream.read()
    except OSError as error:
        raise _audio_error(path, error.strerror or str(error), "give paths that exist") from None
    if not size:
        raise _audio_error(path, "is empty: 0 bytes")
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        length = int.from_bytes(head[4:8], "little")
        if length not in _ANY_LENGTH and length + 8 > size + 1:  # some writers do not count the padding byte
            raise _audio_error(path, f"is truncated: {size} bytes of {length + 8}", "copy it again")
    if head[:4] == b"OggS" and (missing := _missing_of_last_page(tail)):
        raise _audio_error(path, f"is truncated: its last page lacks {missing} bytes", "copy it again")


def _missing_of_last_page(tail: bytes) -> int:
    """Number of bytes that the last page of a truncated OGG file lacks (RFC 3533, section 6)."""
    start = tail.rfind(b"OggS")
    if start < 0 or len(tail) - start < _OGG_PAGE.size - 1:
        return 1
    segments = tail[start + 26]
    lengths = tail[start + 27 : start + 27 + segments]
    return max(0, 27 + segments + sum(lengths) - (len(tail) - start))


def count_frames(samples: int, hop: int) -> int:
    """Number of frames that the samples fill; the last frame may be partial."""
    return math.ceil(samples / hop)

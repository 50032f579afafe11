"""Load a recording as mono audio at 16 kHz, with notes about unusual properties of the file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thunder.acoustic.features.recipe import RATE
from thunder.acoustic.sound_files import containers
from thunder.acoustic.sound_files.reader import DURATION_TOLERANCE, Span, read_sound
from thunder.acoustic.sound_files.sound_fault import sound_fault

WINDOW_SECONDS = 30  # input length of Whisper
# libsndfile's, then those that ffmpeg or afconvert convert
SUFFIXES = (
    ".flac", ".wav", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".caf", ".au", ".w64",
    *containers.CONTAINER_SUFFIXES,
)  # fmt: skip
# full scale: the largest 16-bit sample is 0.99997
_FULL, _CLIPPED_SHARE = 0.9999, 0.001
# -80 dB of full scale in the loudest 0.1 s: three steps of 16-bit samples, below the noise of a microphone
SILENT_LEVEL, _LEVEL_SECONDS = 1e-4, 0.1
_CANCELLED = 0.01  # power of the average over that of the channels; 0.5 for two that are unrelated


@dataclass(frozen=True)
class Audio:
    """samples: [S] float32 at 16 kHz. clipped: share of the file's samples at full scale. notes: unusual properties.

    silent: no part of it is louder than `SILENT_LEVEL`.
    """

    samples: np.ndarray
    seconds: float
    clipped: float
    notes: tuple[str, ...]
    silent: bool = False


def load_audio(path: Path) -> Audio:
    """The whole file, with its channels averaged; see `read_recording`."""
    return read_recording(path)


def read_recording(
    path: Path, *, offset: float | None = None, duration: float | None = None, channel: int | None = None
) -> Audio:
    """Read a recording or a segment of it, resampled to 16 kHz.

    With `offset`, the segment begins there and has `duration` seconds, or ends with the file. Without `offset`,
    `duration` is what a row states about the file, and must agree with it. channel: the one to use, from 0 (default:
    the average of all). Reads all formats of libsndfile, and what ffmpeg or afconvert convert.

    Raises CorpusError that names the file if it is missing, empty, not audio, truncated, too long, not finite, has no
    such channel or segment, contradicts `duration`, or has channels that cancel each other.
    """
    span = None if offset is None else Span(offset, None if duration is None else offset + duration)
    sound = read_sound(path, span)
    if offset is None and duration is not None and abs(duration - sound.file_seconds) > DURATION_TOLERANCE:
        reason = f"is {sound.file_seconds:.2f} s long, and its row states a duration of {duration:g} s"
        raise sound_fault(path, reason, "correct the row; give it an offset (0 for the start) to cut the file")
    frames, rate = sound.samples, sound.rate
    if not len(frames):
        raise sound_fault(path, "is empty: it holds no samples")
    low, high = float(frames.min()), float(frames.max())  # NaN if any sample is
    if not math.isfinite(high - low):
        raise sound_fault(path, "has samples that are not finite")
    clipped = float((np.abs(frames) >= _FULL).mean()) if max(high, -low) >= _FULL else 0.0
    samples = resample_audio(_one_channel(path, frames, channel), rate)
    silent = _is_silent(samples)
    notes = (*_notes(rate, frames.shape[1], channel, clipped, silent), *sound.notes)
    return Audio(samples, len(frames) / rate, clipped, notes, silent)


def _one_channel(path: Path, frames: np.ndarray, channel: int | None) -> np.ndarray:
    """[S, C] -> [S]: one channel, or the average. Raises CorpusError if it does not exist, or the channels cancel."""
    channels = frames.shape[1]
    if channel is not None:
        if not 0 <= channel < channels:
            have = "1 channel" if channels == 1 else f"{channels} channels"
            raise sound_fault(path, f"has {have}, and channel {channel} was asked for (the first is 0)")
        return np.ascontiguousarray(frames[:, channel])
    if channels == 1:
        return frames[:, 0]
    average = frames.mean(1)
    if (power := float(np.square(frames).mean())) and float(np.square(average).mean()) < _CANCELLED * power:
        raise sound_fault(
            path, "has channels of opposite phase: their average cancels the sound", "use one of them: --channel 0"
        )
    return average


def _is_silent(samples: np.ndarray) -> bool:
    """True if the root mean square of every 0.1 s is below `SILENT_LEVEL`."""
    if float(np.dot(samples, samples)) >= SILENT_LEVEL**2 * len(samples):
        return False  # quick: where the average is louder, a part is
    starts = np.arange(0, len(samples), round(_LEVEL_SECONDS * RATE))
    power = np.add.reduceat(np.square(samples, dtype=np.float32), starts) / np.diff([*starts, len(samples)])
    return float(power.max()) < SILENT_LEVEL**2


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


def _notes(rate: int, channels: int, channel: int | None, clipped: float, silent: bool) -> tuple[str, ...]:
    notes = []
    if channel is not None and channels > 1:
        notes.append(f"is channel {channel} of {channels}")
    elif channels == 2:
        notes.append("was stereo")
    elif channels > 2:
        notes.append(f"had {channels} channels")
    if rate != RATE:
        notes.append(f"was resampled from {rate} Hz")
    if clipped >= _CLIPPED_SHARE:
        notes.append("is clipped")
    if silent:
        notes.append("is silent")
    return tuple(notes)


def count_frames(samples: int, hop: int) -> int:
    """Number of frames that the samples fill; the last frame may be partial."""
    return math.ceil(samples / hop)

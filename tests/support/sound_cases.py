"""Sound files as recorders, pipes, phones and browsers write them, made on the spot."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
FFMPEG = shutil.which("ffmpeg")


def tone(seconds=1.0, rate=RATE, hertz=440.0, level=0.5):
    """[S] float32."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def speech_like(seconds=2.0, rate=RATE):
    """[S] float32: noise in syllables, no part of which repeats."""
    draw = np.random.default_rng(0).normal(0, 0.1, round(seconds * rate))
    return (draw * (0.2 + np.sin(np.arange(len(draw)) * 20 / rate) ** 2)).astype(np.float32)


def save(path, samples, rate=RATE, **more):
    """Write a sound file and return its path."""
    soundfile.write(path, samples, rate, **more)
    return path


def wav_with_sizes(path: Path, samples, riff: int | None, data: int | None, tail: bytes = b"") -> Path:
    """A 16-bit WAV whose header states these sizes (None: the right one)."""
    content = bytearray(save(path, samples).read_bytes())
    for position, value in ((4, riff), (40, data)):
        if value is not None:
            content[position : position + 4] = struct.pack("<I", value)
    path.write_bytes(bytes(content) + tail)
    return path


def flac_without_length(path: Path, samples) -> Path:
    """A FLAC as an encoder leaves it that writes into a pipe: 0 samples and no digest in its header."""
    content = bytearray(save(path, samples).read_bytes())
    content[21] &= 0xF0  # the number of samples: 36 bits from the middle of byte 21 on
    content[22:42] = bytes(20)
    path.write_bytes(content)
    return path


def mp3_frames_of(data: bytes) -> list[bytes]:
    """The frames of an MP3 by libsndfile (constant rate and kind, no tags), found by their first two bytes."""
    mark, starts = data[:2], []
    position = 0
    while position + 4 <= len(data):
        assert data[position : position + 2] == mark
        starts.append(position)
        kbits = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)[data[position + 2] >> 4]
        position += 72 * kbits * 1000 // RATE + (data[position + 2] >> 1 & 1)
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


def mp3_without_header(path: Path, samples, **more) -> Path:
    """An MP3 at 16 kHz without its first frame, which states how many frames there are."""
    frames = mp3_frames_of(save(path, samples, format="MP3", **more).read_bytes())
    assert b"Xing" in frames[0] or b"Info" in frames[0]
    path.write_bytes(b"".join(frames[1:]))
    return path


def convert(source: Path, target: Path, *options: str) -> Path:
    """Encode with ffmpeg."""
    assert FFMPEG
    command = [FFMPEG, "-nostdin", "-loglevel", "error", "-y", "-i", str(source), *options, str(target)]
    subprocess.run(command, check=True, timeout=60)
    return target

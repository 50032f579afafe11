"""Whisper's log-mel spectrogram, in NumPy: 25 ms windows every 10 ms, mel bands as Slaney's toolbox has them."""

from __future__ import annotations

from functools import cache

import numpy as np

from thunder.acoustic.features.audio import WINDOW_SECONDS, count_frames
from thunder.acoustic.features.recipe import RATE

HOP, SIZE = 160, 400
FRAMES = WINDOW_SECONDS * RATE // HOP  # 3000, of a whole window
_FLOOR, _RANGE = 1e-10, 8.0
# mel scale of Slaney's Auditory Toolbox: linear up to 1 kHz (15 mel), then 27 steps for each factor of 6.4
_LINEAR_STEP, _KNEE, _KNEE_MEL, _LOG_STEP = 200 / 3, 1000.0, 15.0, np.log(6.4) / 27


@cache
def mel_filters(n_mels: int) -> np.ndarray:
    """[201, n_mels] float64: triangular filters of equal area between points that are evenly spaced on the mel
    scale.
    """
    top = _KNEE_MEL + np.log(RATE / 2 / _KNEE) / _LOG_STEP
    mels = np.linspace(0.0, top, n_mels + 2)
    edges = np.where(mels < _KNEE_MEL, mels * _LINEAR_STEP, _KNEE * np.exp((mels - _KNEE_MEL) * _LOG_STEP))
    bins = np.linspace(0, RATE / 2, SIZE // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))
    filters.setflags(write=False)
    return filters


def log_mel(samples: np.ndarray, n_mels: int, frames: int | None = None) -> np.ndarray:
    """[S] samples of at most 30 s -> [T, n_mels] float32, T = ceil(S / 160), or `frames` of the padded 30 s.

    In both cases the values equal those of samples padded to 30 s with silence, as Whisper computes them.
    """
    assert len(samples) <= WINDOW_SECONDS * RATE, f"{len(samples)} samples are more than a window"
    # samples further than this after the last one are silence, and their frames have the floor value
    needed = (count_frames(len(samples) + SIZE // 2, HOP) + 2) * HOP
    padded = np.zeros(min(WINDOW_SECONDS * RATE, needed), np.float64)
    padded[: len(samples)] = samples
    padded = np.pad(padded, SIZE // 2, "reflect")
    pieces = np.lib.stride_tricks.sliding_window_view(padded, SIZE)[: (len(padded) - SIZE) // HOP * HOP : HOP]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SIZE) / SIZE)
    power = np.abs(np.fft.rfft(pieces * window)) ** 2
    levels = np.log10(np.maximum(_FLOOR, power @ mel_filters(n_mels)))
    floor = max(float(np.log10(_FLOOR)), float(levels.max()) - _RANGE)
    count = count_frames(len(samples), HOP) if frames is None else frames
    out = np.full((count, n_mels), floor)
    out[: len(levels)] = np.maximum(levels, floor)[:count]
    return ((out + 4.0) / 4.0).astype(np.float32)

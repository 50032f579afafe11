"""Overlapping windows for utterances with more frames than the head has positions, and how they are joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from thunder.acoustic.batches.collate import FRAMES_STEP
from thunder.acoustic.dataset.utterances import AcousticExample, FeatureSource
from thunder.acoustic.head.ctc_head import downsampled_frames

OVERLAP_SHARE = 0.25  # of a window; each half of an overlap is taken from the window in which it is farther inside


@dataclass(frozen=True)
class Window:
    """Frames [begin, end) of an utterance's features; begin is a multiple of the head's downsampling."""

    begin: int
    end: int


@dataclass(frozen=True)
class WindowFeatures:
    """The features of windows: of `example`, by the position of each window."""

    features: FeatureSource
    example: AcousticExample
    windows: Sequence[Window]

    def features_of(self, example: AcousticExample) -> np.ndarray:
        """[T, D] float32 of a window that `examples` made."""
        window = self.windows[example.position]
        return self.features.features_of(self.example)[window.begin : window.end]

    def examples(self) -> list[AcousticExample]:
        """Each window as an example without labels."""
        return [
            replace(
                self.example, id=f"{self.example.id}@{window.begin}", position=index,
                frames=window.end - window.begin, labels=(), text="",
            )
            for index, window in enumerate(self.windows)
        ]  # fmt: skip


def plan_windows(frames: int, max_frames: int | None, downsample: int) -> list[Window]:
    """Windows over T frames such that a padded window has at most `max_frames` after downsampling.

    One window if all frames fit, or if there is no limit. Neighbors share a quarter of a window.
    """
    size = frames if max_frames is None else max_frames * downsample // FRAMES_STEP * FRAMES_STEP
    if frames <= size:
        return [Window(0, frames)]
    step = max(downsample, int(size * (1 - OVERLAP_SHARE)) // downsample * downsample)
    starts = range(0, frames - size + step, step)
    return [Window(start, min(start + size, frames)) for start in starts]


def join_windows(windows: Sequence[Window], outputs: Sequence[np.ndarray], downsample: int) -> np.ndarray:
    """[T', V] from the outputs [t', V] of the windows; each overlap is divided in its middle."""
    parts, begin = [], 0
    for index, (window, output) in enumerate(zip(windows, outputs, strict=True)):
        first = window.begin // downsample
        last = first + downsampled_frames(window.end - window.begin, downsample)
        if index + 1 < len(windows):
            last = (windows[index + 1].begin // downsample + last) // 2
        parts.append(output[begin - first : last - first])
        begin = last
    return np.concatenate(parts)

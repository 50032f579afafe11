"""Augment training features; random draws depend on (seed, epoch, row), not on the number of ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thunder.acoustic.acoustic_settings import AcousticSettings


@dataclass(frozen=True)
class Augmentation:
    """Kinds and ranges of augmentation; see the options of the same names."""

    time_masks: int
    time_mask_share: float
    feature_masks: int
    feature_mask_share: float
    speed: float
    warp: float

    @classmethod
    def from_settings(cls, settings: AcousticSettings) -> Augmentation:
        """Read the options. CR-CTC compares masked views, so it gets default masks when the options set none."""
        masks = (settings.time_masks, settings.feature_masks)
        if settings.regularizer[0] == "cr" and not any(masks):
            masks = (2, 2)
        return cls(
            masks[0], settings.time_mask_share, masks[1], settings.feature_mask_share, settings.speed, settings.warp
        )

    def stretch_and_warp(self, features: np.ndarray, rng: np.random.Generator, min_frames: int) -> np.ndarray:
        """Stretch time and warp frequencies of [T, D] to [T', D]; T' is at least min(`min_frames`, T)."""
        if self.speed:
            frames = round(len(features) / (1 + rng.uniform(-self.speed, self.speed)))
            features = stretch_time(features, max(frames, min(min_frames, len(features))))
        if self.warp:
            features = warp_frequency(features, 1 + rng.uniform(-self.warp, self.warp))
        return features

    def mask(self, features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A copy of [T, D] (mean 0) in which ranges of frames and of features are 0 (SpecAugment)."""
        features = features.copy()
        for axis, count, share in (
            (0, self.time_masks, self.time_mask_share),
            (1, self.feature_masks, self.feature_mask_share),
        ):
            length = features.shape[axis]
            for _ in range(count):
                width = int(rng.integers(0, max(1, int(share * length)) + 1))
                start = int(rng.integers(0, length - width + 1))
                features[(slice(None),) * axis + (slice(start, start + width),)] = 0
        return features


def stretch_time(features: np.ndarray, frames: int) -> np.ndarray:
    """Resample [T, D] to [frames, D] by linear interpolation between frames."""
    return _resample(features, np.linspace(0, len(features) - 1, max(frames, 1)))


def warp_frequency(features: np.ndarray, factor: float) -> np.ndarray:
    """[T, D] in which bin b holds the input's bin b * factor; beyond the end the last bin repeats."""
    bins = features.shape[1]
    return _resample(features.T, np.minimum(np.arange(bins) * factor, bins - 1)).T


def _resample(rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
    low = np.floor(positions).astype(int)
    high, fraction = np.minimum(low + 1, len(rows) - 1), (positions - low)[:, None].astype(np.float32)
    return rows[low] * (1 - fraction) + rows[high] * fraction

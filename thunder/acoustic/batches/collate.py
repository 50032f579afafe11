"""Build batches for the head: normalize features, augment them in training, pad to a common length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from thunder.acoustic import labels as spelling
from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.batches.augmentation import Augmentation
from thunder.acoustic.dataset.utterances import AcousticExample, FeatureSource
from thunder.acoustic.head.ctc_head import downsampled_frames
from thunder.acoustic.trajectory.scalars import SCALARS
from thunder.acoustic.trajectory.training_statistics import TrainingStatistics

# lengths are rounded up to multiples of these, so that MLX compiles few shapes
FRAMES_STEP, LABELS_STEP = 16, 8


@dataclass(frozen=True)
class AcousticBatch:
    """x [B or 2B, T, D], frames [B], labels [B, U], label_lengths [B], scalars and conditioning [B, T', 7].

    scalars are as measured; conditioning is standardized, and shuffled if the control is on. With 2B rows the second
    half of x holds second views of the first half's utterances.
    """

    x: mx.array
    frames: mx.array
    labels: mx.array
    label_lengths: mx.array
    scalars: mx.array
    conditioning: mx.array

    def as_tuple(self) -> tuple[mx.array, ...]:
        """The arrays in the order of the loss's arguments."""
        return (self.x, self.frames, self.labels, self.label_lengths, self.scalars, self.conditioning)


@dataclass
class BatchAssembler:
    """Builds batches. Computes scalars only when the mode uses them; caches them unless augmentation changes them."""

    settings: AcousticSettings
    features: FeatureSource
    statistics: TrainingStatistics
    scalar_cache: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.augmentation = Augmentation.from_settings(self.settings)
        self.with_scalars = bool({"trajectory", "tar"} & set(self.settings.parts))

    def batch(self, examples: Sequence[AcousticExample], seeds: Sequence[Sequence[int]] | None = None) -> AcousticBatch:
        """Arrays of these examples; with `seeds` (one for each example) the features are augmented."""
        views: list[list[np.ndarray]] = []
        scalars = []
        for index, example in enumerate(examples):
            rng = np.random.Generator(np.random.PCG64(list(seeds[index]))) if seeds is not None else None
            features = self.features.features_of(example)
            if rng is not None:
                min_frames = spelling.frames_needed(example.labels) * self.settings.downsample
                features = self.augmentation.stretch_and_warp(features, rng, min_frames)
            scalars.append(self._scalars(example, features, augmented=rng is not None))
            x = self.normalize(features)
            two_views = rng is not None and self.settings.regularizer[0] == "cr"
            views.append([x if rng is None else self.augmentation.mask(x, rng) for _ in range(1 + two_views)])
        frames = [len(view[0]) for view in views]
        scalar_frames = [downsampled_frames(_round_up(max(frames), FRAMES_STEP), self.settings.downsample)] * len(
            examples
        )
        conditioning = [self.conditioning(*pair) for pair in zip(examples, scalars, strict=True)]
        length = _round_up(max(frames), FRAMES_STEP)
        return AcousticBatch(
            mx.array(_pad([view[n] for n in range(len(views[0])) for view in views], length)),
            mx.array(frames),
            mx.array(_label_array([example.labels for example in examples])),
            mx.array([len(example.labels) for example in examples]),
            mx.array(_pad(scalars, scalar_frames[0])),
            mx.array(_pad(conditioning, scalar_frames[0])),
        )

    def normalize(self, features: np.ndarray) -> np.ndarray:
        """[T, D] with mean 0 and deviation 1 for each feature, over the training set or over the utterance."""
        if self.settings.normalize == "utterance":
            return (features - features.mean(0)) / (features.std(0) + 1e-2)
        return (features - self.statistics.mean) / self.statistics.deviation

    def _scalars(self, example: AcousticExample, features: np.ndarray, augmented: bool) -> np.ndarray:
        """Scalars [T', 7] as measured; zeros if the mode does not use them."""
        frames = downsampled_frames(len(features), self.settings.downsample)
        if not self.with_scalars:
            return np.zeros((frames, len(SCALARS)), np.float32)
        if augmented and (self.augmentation.speed or self.augmentation.warp):
            return self.statistics.utterance_scalars(features, self.settings.downsample)
        if example.id not in self.scalar_cache:
            self.scalar_cache[example.id] = self.statistics.utterance_scalars(features, self.settings.downsample)
        return self.scalar_cache[example.id]

    def conditioning(self, example: AcousticExample, scalars: np.ndarray) -> np.ndarray:
        """Standardized scalars [T', 7]; if the control is on, their frames are shuffled, differently for each
        utterance.
        """
        if not self.with_scalars:
            return scalars
        if self.settings.control == "shuffled":
            name = np.frombuffer(example.id.encode(), np.uint8)
            order = np.random.Generator(np.random.PCG64([self.settings.seed, 5, *name])).permutation(len(scalars))
            scalars = scalars[order]
        return self.statistics.standardize(scalars)


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step


def _pad(arrays: Sequence[np.ndarray], length: int) -> np.ndarray:
    """[B, length, N] float32, padded with zeros."""
    padded = np.zeros((len(arrays), length, arrays[0].shape[1]), np.float32)
    for row, array in enumerate(arrays):
        padded[row, : len(array)] = array
    return padded


def _label_array(labels: Sequence[Sequence[int]]) -> np.ndarray:
    padded = np.zeros((len(labels), _round_up(max(1, *(len(ids) for ids in labels), 1), LABELS_STEP)), np.int32)
    for row, ids in enumerate(labels):
        padded[row, : len(ids)] = ids
    return padded

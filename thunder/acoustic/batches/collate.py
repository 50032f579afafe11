"""Utterances as arrays for the head: normalised, augmented in training, padded to a common length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from thunder.acoustic import labels as spelling
from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.batches.augmentation import Augmentation
from thunder.acoustic.dataset.utterances import Example, Frames
from thunder.acoustic.head.ctc_head import frames_out
from thunder.acoustic.trajectory.scalars import SCALARS
from thunder.acoustic.trajectory.training_statistics import Tables

# lengths are rounded up to these, so that few shapes are compiled for
FRAMES_STEP, LABELS_STEP = 16, 8


@dataclass(frozen=True)
class Arrays:
    """x [B or 2B, T, D], frames [B], labels [B, U], label_lengths [B], scalars and conditioning [B, T', 7].

    scalars are as measured; conditioning is standardised, and shuffled under the control. Of 2B rows the second half
    are other views of the first.
    """

    x: mx.array
    frames: mx.array
    labels: mx.array
    label_lengths: mx.array
    scalars: mx.array
    conditioning: mx.array

    def as_tuple(self) -> tuple[mx.array, ...]:
        """In the order of the loss's arguments."""
        return (self.x, self.frames, self.labels, self.label_lengths, self.scalars, self.conditioning)


@dataclass
class Assembler:
    """Makes batches. Scalars are made only where the mode uses them, and kept where no augmentation changes them."""

    settings: AcousticSettings
    features: Frames
    tables: Tables
    kept: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.augmentation = Augmentation.of(self.settings)
        self.with_scalars = bool({"trajectory", "tar"} & set(self.settings.parts))

    def batch(self, examples: Sequence[Example], seeds: Sequence[Sequence[int]] | None = None) -> Arrays:
        """Arrays of some examples; with `seeds`, one for each, augmented."""
        views: list[list[np.ndarray]] = []
        scalars = []
        for number, example in enumerate(examples):
            draw = np.random.Generator(np.random.PCG64(list(seeds[number]))) if seeds is not None else None
            features = self.features.of(example)
            if draw is not None:
                least = spelling.frames_needed(example.labels) * self.settings.downsample
                features = self.augmentation.bent(features, draw, least)
            scalars.append(self._scalars(example, features, augmented=draw is not None))
            x = self.normalised(features)
            doubled = draw is not None and self.settings.regulariser[0] == "cr"
            views.append([x if draw is None else self.augmentation.masked(x, draw) for _ in range(1 + doubled)])
        frames = [len(view[0]) for view in views]
        out = [frames_out(_rounded(max(frames), FRAMES_STEP), self.settings.downsample)] * len(examples)
        conditioning = [self.conditioning(*pair) for pair in zip(examples, scalars, strict=True)]
        length = _rounded(max(frames), FRAMES_STEP)
        return Arrays(
            mx.array(_padded([view[n] for n in range(len(views[0])) for view in views], length)),
            mx.array(frames),
            mx.array(_label_array([example.labels for example in examples])),
            mx.array([len(example.labels) for example in examples]),
            mx.array(_padded(scalars, out[0])),
            mx.array(_padded(conditioning, out[0])),
        )

    def normalised(self, features: np.ndarray) -> np.ndarray:
        """[T, D] with mean 0 and deviation 1 for each feature: over the training set, or over the utterance."""
        if self.settings.normalise == "utterance":
            return (features - features.mean(0)) / (features.std(0) + 1e-2)
        return (features - self.tables.mean) / self.tables.deviation

    def _scalars(self, example: Example, features: np.ndarray, augmented: bool) -> np.ndarray:
        """[T', 7] as measured; zeros where the mode does not use them."""
        frames = frames_out(len(features), self.settings.downsample)
        if not self.with_scalars:
            return np.zeros((frames, len(SCALARS)), np.float32)
        if augmented and (self.augmentation.speed or self.augmentation.warp):
            return self.tables.scalars(features, self.settings.downsample)
        if example.id not in self.kept:
            self.kept[example.id] = self.tables.scalars(features, self.settings.downsample)
        return self.kept[example.id]

    def conditioning(self, example: Example, scalars: np.ndarray) -> np.ndarray:
        """[T', 7] standardised; under the control with the frames of each utterance in an order of its own."""
        if not self.with_scalars:
            return scalars
        if self.settings.control == "shuffled":
            name = np.frombuffer(example.id.encode(), np.uint8)
            order = np.random.Generator(np.random.PCG64([self.settings.seed, 5, *name])).permutation(len(scalars))
            scalars = scalars[order]
        return self.tables.standardised(scalars)


def _rounded(number: int, step: int) -> int:
    return -(-number // step) * step


def _padded(arrays: Sequence[np.ndarray], length: int) -> np.ndarray:
    """[B, length, N] float32, zeros beyond each."""
    out = np.zeros((len(arrays), length, arrays[0].shape[1]), np.float32)
    for row, array in enumerate(arrays):
        out[row, : len(array)] = array
    return out


def _label_array(labels: Sequence[Sequence[int]]) -> np.ndarray:
    out = np.zeros((len(labels), _rounded(max(1, *(len(one) for one in labels), 1), LABELS_STEP)), np.int32)
    for row, ids in enumerate(labels):
        out[row, : len(ids)] = ids
    return out

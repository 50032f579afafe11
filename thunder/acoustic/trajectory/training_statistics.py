"""Statistics of the training features that a head stores: mean, deviation, codebook, partition thresholds."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields

import mlx.core as mx
import numpy as np

from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.dataset.utterances import AcousticExample, FeatureSet
from thunder.acoustic.features.frontend import subsample_frames
from thunder.acoustic.trajectory import partitions, scalars

SAMPLE_UTTERANCES = 500  # selected by the digest of their ids
CODEBOOK_FRAMES = 50_000
PREFIX = "tables."


@dataclass(frozen=True)
class TrainingStatistics:
    """mean, deviation: [D] of the features. codebook: [K, D]. scalar_mean, scalar_deviation: [7] over frames.

    frame_limits, row_limits: [3], thresholds of the partitions of frames and of utterances.
    """

    mean: np.ndarray
    deviation: np.ndarray
    codebook: np.ndarray
    scalar_mean: np.ndarray
    scalar_deviation: np.ndarray
    frame_limits: np.ndarray
    row_limits: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays by their names in a checkpoint."""
        return {PREFIX + field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> TrainingStatistics:
        """Inverse of `arrays`. Raises KeyError for a missing array."""
        return cls(**{field.name: np.asarray(arrays[PREFIX + field.name], np.float32) for field in fields(cls)})

    def to_bytes(self) -> bytes:
        """Serialize, to send to the other ranks."""
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, **self.arrays())
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> TrainingStatistics:
        """Inverse of `to_bytes`."""
        with np.load(io.BytesIO(data)) as arrays:
            return cls.from_arrays({name: arrays[name] for name in arrays})

    def utterance_scalars(self, features: np.ndarray, downsample: int) -> np.ndarray:
        """Scalars [T', 7] of an utterance [T, D] on its own, so that they do not depend on its batch."""
        pooled = subsample_frames(features, downsample, "mean")
        return np.array(scalars.trajectory_scalars(mx.array(pooled[None]), mx.array(self.codebook)))[0]

    def standardize(self, scalars: np.ndarray) -> np.ndarray:
        """Scalars [T', 7] with mean 0 and deviation 1 over the training frames."""
        return (scalars - self.scalar_mean) / self.scalar_deviation

    def utterance_partition(self, scalars: np.ndarray) -> str:
        """The partition of a whole utterance [T', 7]."""
        place = partitions.partition_frames(partitions.utterance_summary(scalars)[None], self.row_limits)[0]
        return partitions.FRAME_PARTITIONS[place]


def fit_statistics(
    settings: AcousticSettings, features: FeatureSet, train: Sequence[AcousticExample]
) -> TrainingStatistics:
    """Fit on a sample of the training utterances; the same utterances and seed give the same statistics."""
    sample = sorted(train, key=lambda example: hashlib.sha256(example.id.encode()).digest())[:SAMPLE_UTTERANCES]
    utterances = [features.features_of(utterance) for utterance in sample]
    frames = np.concatenate(utterances)
    pooled = np.concatenate([subsample_frames(utterance, settings.downsample, "mean") for utterance in utterances])
    rng = np.random.Generator(np.random.PCG64([settings.seed, 3]))
    if len(pooled) > CODEBOOK_FRAMES:
        pooled = pooled[np.sort(rng.choice(len(pooled), CODEBOOK_FRAMES, replace=False))]
    codebook = scalars.fit_codebook(pooled, settings.codebook, settings.seed)
    initial = TrainingStatistics(
        frames.mean(0), frames.std(0) + 1e-5, codebook, *(np.zeros(0, np.float32) for _ in range(4))
    )
    utterance_scalars = [initial.utterance_scalars(utterance, settings.downsample) for utterance in utterances]
    frame_scalars = np.concatenate(utterance_scalars)
    return TrainingStatistics(
        mean=initial.mean.astype(np.float32),
        deviation=initial.deviation.astype(np.float32),
        codebook=codebook,
        scalar_mean=frame_scalars.mean(0),
        scalar_deviation=frame_scalars.std(0) + 1e-5,
        frame_limits=partitions.partition_thresholds(frame_scalars),
        row_limits=partitions.partition_thresholds(partitions.utterance_summaries(utterance_scalars)),
    )

"""The training task of an acoustic head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import mlx.core as mx

from thunder.acoustic import labels
from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.batches.collate import BatchAssembler
from thunder.acoustic.dataset.utterances import AcousticDataset, AcousticExample
from thunder.acoustic.head import head_file, regularizers
from thunder.acoustic.head.ctc_head import CTCHead, downsampled_frames, frame_mask
from thunder.acoustic.head.row_dropout import keys_of_rows, keys_of_two_views
from thunder.acoustic.trajectory.training_statistics import TrainingStatistics
from thunder.errors import UsageError
from thunder.kernels import dispatch
from thunder.kernels.ctc import ctc_loss
from thunder.parallel import row_order
from thunder.training.task import Batch


class AcousticTask:
    """CTC over frozen features. A supervised token is a label; the loss is per label, in nats."""

    output = "model"

    def __init__(self, settings: AcousticSettings, dataset: AcousticDataset, statistics: TrainingStatistics) -> None:
        self.settings, self.dataset, self.statistics = settings, dataset, statistics
        self.rows = len(dataset.train)
        self.lengths: Sequence[int] | None = [example.frames for example in dataset.train]
        # the CPU program of CTC is not an MLX operation, so a compiled step cannot contain it
        self.compiled = dispatch.available_backends()[0] in ("metal", "cuda")
        first_store = dataset.features.stores[0]
        self.origin = head_file.HeadOrigin(
            settings, first_store.width, first_store.recipe.resolved(), first_store.recipe_digest
        )
        mx.random.seed(settings.seed)
        self.model = CTCHead(settings, first_store.width, labels.ALPHABETS[settings.script].size)
        self._check_frame_limits()
        if settings.start_from:
            head_file.load_initial_weights(Path(settings.start_from), self.model, self.origin)
        mx.eval(self.model.parameters())
        self.model.train()
        self.assembler = BatchAssembler(settings, dataset.features, statistics)

    def _check_frame_limits(self) -> None:
        """Raise UsageError if an utterance has more frames than the head has positions."""
        examples = (*self.dataset.train, *self.dataset.valid, *self.dataset.test)
        longest = max(examples, key=lambda example: example.frames)
        # augmentation stretches time, and batches are padded to a multiple of 16
        frames = downsampled_frames(int(longest.frames / (1 - self.settings.speed)) + 16, self.settings.downsample)
        if self.model.max_frames and frames > self.model.max_frames:
            raise UsageError(
                f"utterance {longest.id!r} has {longest.frames} frames, but the head {self.settings.head} takes about "
                f"{self.model.max_frames * self.settings.downsample}",
                fix="raise --downsample, or exclude such utterances with --max-seq-length",
            )

    def batch(self, rows: Sequence[int], epoch: int) -> Batch:
        """See Task; each epoch draws new augmentation and dropout, for each row by itself."""
        seeds = [(self.settings.seed, 11, epoch, row) for row in rows]
        batch = self._batch([self.dataset.train[row] for row in rows], seeds)
        if not self.settings.dropout or self.settings.dropout_draw == "batch":
            return batch
        row_keys = keys_of_rows([(self.settings.seed, 13, epoch, row) for row in rows])
        return replace(batch, arrays=(*batch.arrays, row_keys))

    def _batch(self, examples: Sequence[AcousticExample], seeds: Sequence[Sequence[int]] | None) -> Batch:
        arrays = self.assembler.batch(examples, seeds)
        return Batch(arrays.as_tuple(), sum(len(example.labels) for example in examples))

    def loss(self, model: CTCHead, *arrays: mx.array) -> mx.array:
        """CTC loss [] in nats, summed over utterances; in training, with the regularizer of
        docs/explanation/modes.md.
        """
        x, frames, labels, label_lengths, scalars, conditioning, *keys = arrays
        row_keys = keys[0] if keys else None
        frames_after_downsampling = (frames + self.settings.downsample - 1) // self.settings.downsample
        name, weight = self.settings.regularizer
        if x.shape[0] == 2 * frames.shape[0]:
            view_keys = None if row_keys is None else keys_of_two_views(row_keys)
            both_views = model(x, mx.tile(frames, 2), mx.tile(conditioning, (2, 1, 1)), view_keys)
            view_one, view_two = both_views[: frames.shape[0]], both_views[frames.shape[0] :]
            ctc = 0.5 * (
                ctc_loss(view_one, frames_after_downsampling, labels, label_lengths)
                + ctc_loss(view_two, frames_after_downsampling, labels, label_lengths)
            )
            return (
                ctc
                + weight
                * regularizers.consistency_loss(
                    view_one, view_two, frame_mask(frames_after_downsampling, view_one.shape[1])
                )
            ).sum()
        logits = model(x, frames, conditioning, row_keys)
        ctc = ctc_loss(logits, frames_after_downsampling, labels, label_lengths)
        if name == "tar" and model.training:
            penalty = regularizers.temporal_alignment_loss(
                logits, scalars, frame_mask(frames_after_downsampling, logits.shape[1])
            )
            ctc = ctc + weight * label_lengths * penalty
        return ctc.sum()

    @property
    def groups(self) -> tuple[str, ...]:
        """One group if there are validation rows, otherwise none."""
        return ("valid",) if self.dataset.valid else ()

    def validation(self, rank: int, size: int) -> Iterator[tuple[str, Batch]]:
        """See Task; plain CTC in every mode, batches of similar length."""
        examples = sorted(self.dataset.valid, key=lambda example: (example.frames, example.id))[rank::size]
        for start in range(0, len(examples), self.settings.batch_size):
            yield "valid", self._batch(examples[start : start + self.settings.batch_size], None)

    def probe(self, rank: int, size: int) -> Iterator[Batch]:
        """This rank's share of some training utterances without augmentation; the same at every validation."""
        selected = row_order.evenly_spaced(self.dataset.train, self.settings.probe_rows)
        examples = sorted(selected, key=lambda example: (example.frames, example.id))[rank::size]
        for start in range(0, len(examples), self.settings.batch_size):
            yield self._batch(examples[start : start + self.settings.batch_size], None)

    def validation_metrics(self, sums: dict[str, tuple[float, float]]) -> dict[str, float]:
        """Mean CTC loss per label, in nats."""
        loss, count = sums["valid"]
        return {"valid_loss": loss / count}

    def save(self, folder: Path) -> None:
        """Write the head with its statistics."""
        head_file.save_head(folder / head_file.HEAD_FILE, self.model, self.statistics, self.origin)

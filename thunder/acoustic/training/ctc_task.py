"""An acoustic head, as a task for the loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import mlx.core as mx

from thunder.acoustic import labels
from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.batches.collate import Assembler
from thunder.acoustic.dataset.utterances import Example, Prepared
from thunder.acoustic.head import head_file, regularizers
from thunder.acoustic.head.ctc_head import Head, frames_out, present
from thunder.acoustic.trajectory.training_statistics import Tables
from thunder.errors import UsageError
from thunder.kernels import dispatch
from thunder.kernels.ctc import ctc_loss
from thunder.parallel import row_order
from thunder.training.task import Batch


class AcousticTask:
    """CTC over frozen features. A supervised token is a label; the loss is per label, in nats."""

    output = "model"

    def __init__(self, settings: AcousticSettings, prepared: Prepared, tables: Tables) -> None:
        self.settings, self.prepared, self.tables = settings, prepared, tables
        self.rows = len(prepared.train)
        self.lengths: Sequence[int] | None = [one.frames for one in prepared.train]
        # on the CPU the fast CTC is no MLX operation, and cannot be part of a compiled step
        self.compiled = dispatch.available_backends()[0] in ("metal", "cuda")
        store = prepared.features.stores[0]
        self.origin = head_file.Origin(settings, store.width, store.recipe.resolved(), store.recipe_digest)
        mx.random.seed(settings.seed)
        self.model = Head(settings, store.width, labels.ALPHABETS[settings.script].size)
        self._refuse_too_long()
        if settings.start_from:
            head_file.start_from(Path(settings.start_from), self.model, self.origin)
        mx.eval(self.model.parameters())
        self.model.train()
        self.assembler = Assembler(settings, prepared.features, tables)

    def _refuse_too_long(self) -> None:
        """Raise UsageError where the head has fewer positions than an utterance has frames."""
        everything = (*self.prepared.train, *self.prepared.valid, *self.prepared.test)
        longest = max(everything, key=lambda one: one.frames)
        # training stretches time, and batches are padded a little
        frames = frames_out(int(longest.frames / (1 - self.settings.speed)) + 16, self.settings.downsample)
        if self.model.longest and frames > self.model.longest:
            raise UsageError(
                f"utterance {longest.id!r} has {longest.frames} frames, and the head {self.settings.head} takes about "
                f"{self.model.longest * self.settings.downsample}",
                fix="a higher --downsample, or --max-seq-length to leave such utterances out",
            )

    def batch(self, rows: Sequence[int], epoch: int) -> Batch:
        """See Task; augmentation is drawn anew in every epoch."""
        seeds = [(self.settings.seed, 11, epoch, row) for row in rows]
        return self._batch([self.prepared.train[row] for row in rows], seeds)

    def _batch(self, examples: Sequence[Example], seeds: Sequence[Sequence[int]] | None) -> Batch:
        arrays = self.assembler.batch(examples, seeds)
        return Batch(arrays.as_tuple(), sum(len(one.labels) for one in examples))

    def loss(self, model: Head, *arrays: mx.array) -> mx.array:
        """[] CTC summed over utterances; in training with the regulariser, as docs/explanation/modes.md weighs them."""
        x, frames, wanted, lengths, scalars, conditioning = arrays
        out = (frames + self.settings.downsample - 1) // self.settings.downsample
        name, weight = self.settings.regulariser
        if x.shape[0] == 2 * frames.shape[0]:
            both = model(x, mx.tile(frames, 2), mx.tile(conditioning, (2, 1, 1)))
            one, two = both[: frames.shape[0]], both[frames.shape[0] :]
            ctc = 0.5 * (ctc_loss(one, out, wanted, lengths) + ctc_loss(two, out, wanted, lengths))
            return (ctc + weight * regularizers.consistency(one, two, present(out, one.shape[1]))).sum()
        logits = model(x, frames, conditioning)
        ctc = ctc_loss(logits, out, wanted, lengths)
        if name == "tar" and model.training:
            penalty = regularizers.temporal_alignment(logits, scalars, present(out, logits.shape[1]))
            ctc = ctc + weight * lengths * penalty
        return ctc.sum()

    @property
    def groups(self) -> tuple[str, ...]:
        """One group, where there are validation rows."""
        return ("valid",) if self.prepared.valid else ()

    def validation(self, rank: int, size: int) -> Iterator[tuple[str, Batch]]:
        """See Task; plain CTC in every mode, utterances of like length together."""
        mine = sorted(self.prepared.valid, key=lambda one: (one.frames, one.id))[rank::size]
        for start in range(0, len(mine), self.settings.batch_size):
            yield "valid", self._batch(mine[start : start + self.settings.batch_size], None)

    def probe(self, rank: int, size: int) -> Iterator[Batch]:
        """This rank's share of some training utterances, as they are; the same at every validation."""
        chosen = row_order.evenly_spaced(self.prepared.train, self.settings.probe_rows)
        mine = sorted(chosen, key=lambda one: (one.frames, one.id))[rank::size]
        for start in range(0, len(mine), self.settings.batch_size):
            yield self._batch(mine[start : start + self.settings.batch_size], None)

    def validation_metrics(self, sums: dict[str, tuple[float, float]]) -> dict[str, float]:
        """Mean CTC loss per label, in nats."""
        loss, count = sums["valid"]
        return {"valid_loss": loss / count}

    def save(self, folder: Path) -> None:
        """Write the head with its tables."""
        head_file.save(folder / head_file.NAME, self.model, self.tables, self.origin)

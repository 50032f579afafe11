"""Recognize utterances with a head: rows of recognized text, reference, edits, scalars and partition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thunder.acoustic import labels
from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.batches.collate import BatchAssembler
from thunder.acoustic.dataset.utterances import AcousticExample, FeatureSource
from thunder.acoustic.decoding import confidence
from thunder.acoustic.decoding.beam_search import greedy_decode
from thunder.acoustic.head import regularizers
from thunder.acoustic.head.ctc_head import CTCHead, downsampled_frames
from thunder.acoustic.head.head_file import LoadedHead
from thunder.acoustic.inference import edits_by_partition, long_windows
from thunder.acoustic.trajectory.scalars import SCALARS
from thunder.acoustic.trajectory.training_statistics import TrainingStatistics
from thunder.text import distance

LabelDecoder = Callable[[np.ndarray], Sequence[int]]


@dataclass(frozen=True)
class Recognizer:
    """A head with its statistics; settings: those of its training, or others for the test.

    decode: log probabilities [T, V] -> label ids.
    """

    model: CTCHead
    statistics: TrainingStatistics
    settings: AcousticSettings
    decode: LabelDecoder = greedy_decode

    @classmethod
    def from_head(
        cls, loaded: LoadedHead, ttt_lr: float | None = None, decode: LabelDecoder = greedy_decode
    ) -> Recognizer:
        """The recognizer of a checkpoint; ttt_lr: another learning rate for its fast weights."""
        settings = loaded.origin.settings
        if ttt_lr is not None and loaded.model.adapter is not None:
            loaded.model.adapter.learning_rate = ttt_lr
            settings = settings.model_copy(update={"ttt_lr": ttt_lr})
        return cls(loaded.model, loaded.statistics, settings, decode)

    def recognize(
        self,
        features: FeatureSource,
        examples: Sequence[AcousticExample],
        batch_size: int,
        on_row: Callable[[int], None] = lambda count: None,
        alignment: Mapping[str, Sequence[str]] | None = None,
    ) -> Iterator[tuple[AcousticExample, dict[str, Any]]]:
        """Each example with its result row, sorted by length; fields that only the run knows are absent.

        alignment: id -> partition of each reference character, from another head (default: this head). on_row: called
        with the number of rows of each batch. An example that is longer than the head's positions is read in
        overlapping windows; its row has their number as `windows`.
        """
        ordered = sorted(examples, key=lambda example: (example.frames, example.id))
        long = [example for example in ordered if len(self._windows(example)) > 1]
        short = ordered[: len(ordered) - len(long)]  # the longest ones come last
        self.model.eval()
        for begin in range(0, len(short), batch_size):
            batch = short[begin : begin + batch_size]
            outputs = self._forward(features, batch, batch_size)
            for example, (probabilities, metrics) in zip(batch, outputs, strict=True):
                own_partitions = (alignment or {}).get(example.id)
                yield example, self._recognize_one(features, example, probabilities, own_partitions) | metrics
            on_row(len(batch))
        for example in long:
            probabilities, metrics = self._forward_windows(features, example, batch_size)
            own_partitions = (alignment or {}).get(example.id)
            yield example, self._recognize_one(features, example, probabilities, own_partitions) | metrics
            on_row(1)

    def _windows(self, example: AcousticExample) -> list[long_windows.Window]:
        return long_windows.plan_windows(example.frames, self.model.max_frames, self.settings.downsample)

    def _forward(
        self, features: FeatureSource, examples: Sequence[AcousticExample], batch_size: int
    ) -> list[tuple[np.ndarray, dict[str, Any]]]:
        """Log probabilities [T', V] of each example, with padding, and the metrics of its fast weights."""
        assembler, outputs = BatchAssembler(self.settings, features, self.statistics), []
        for begin in range(0, len(examples), batch_size):
            arrays = assembler.batch(examples[begin : begin + batch_size])
            logits, adapted = self.model.forward_with_adapter(arrays.x, arrays.frames, arrays.conditioning)
            metrics = {"ttt_drift": np.array(adapted.drift), "ttt_capped": np.array(adapted.capped)} if adapted else {}
            for index, probabilities in enumerate(np.array(regularizers.log_probabilities(logits))):
                outputs.append((probabilities, {name: float(values[index]) for name, values in metrics.items()}))
        return outputs

    def _forward_windows(
        self, features: FeatureSource, example: AcousticExample, batch_size: int
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Like `_forward` for one example that is longer than the head's positions; fast weights start anew in each
        window, and their drift is the largest one.
        """
        windows = self._windows(example)
        source = long_windows.WindowFeatures(features, example, windows)
        outputs = self._forward(source, source.examples(), batch_size)
        joined = long_windows.join_windows(windows, [output for output, _ in outputs], self.settings.downsample)
        metrics: dict[str, Any] = {"windows": len(windows)}
        if "ttt_drift" in outputs[0][1]:
            metrics["ttt_drift"] = max(values["ttt_drift"] for _, values in outputs)
            metrics["ttt_capped"] = float(np.mean([values["ttt_capped"] for _, values in outputs]))
        return joined, metrics

    def _recognize_one(
        self,
        features: FeatureSource,
        example: AcousticExample,
        probabilities: np.ndarray,
        character_partitions: Sequence[str] | None,
    ) -> dict[str, Any]:
        """One utterance's row; fields that need a reference are absent if it has none.

        probabilities: log probabilities [T', V], with padding. Where every frame is blank there is no text, whatever a
        language model proposes.
        """
        frames = downsampled_frames(example.frames, self.settings.downsample)
        alphabet = labels.ALPHABETS[self.settings.script]
        label_ids = list(self.decode(probabilities[:frames]))
        if confidence.is_speechless(probabilities[:frames]):
            label_ids = []
        text = alphabet.decode(label_ids)
        scalars = self.statistics.utterance_scalars(features.features_of(example), self.settings.downsample)
        row = {
            "asr_text": text,
            "confidence": round(confidence.text_confidence(probabilities[:frames], label_ids), 4),
            "trajectory_scalars": dict(zip(SCALARS, map(float, scalars.mean(0)), strict=True)),
            "partition": self.statistics.utterance_partition(scalars),
            "frames": frames,
        }
        if not example.text:
            return row
        if character_partitions is None:
            limits = self.statistics.frame_limits
            reference = (probabilities[:frames], example.labels, example.text, alphabet.form)
            character_partitions = edits_by_partition.character_partitions(*reference, scalars, limits)
        char_errors, word_errors = (
            distance.count_errors(text, example.text),
            distance.count_errors(text, example.text, "word"),
        )
        return row | {
            "reference_text": example.text,
            "cer_edits": char_errors.edits,
            "reference_chars": char_errors.reference_chars,
            "wer_edits": word_errors.edits,
            "reference_words": word_errors.reference_chars,
            "character_partitions": list(character_partitions),
            "edits_by_partition": edits_by_partition.edit_counts(text, example.text, character_partitions),
        }

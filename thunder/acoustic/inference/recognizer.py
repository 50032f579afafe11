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
from thunder.acoustic.inference import edits_by_partition
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
        with the number of rows of each batch.
        """
        assembler = BatchAssembler(self.settings, features, self.statistics)
        ordered = sorted(examples, key=lambda example: (example.frames, example.id))
        self.model.eval()
        for begin in range(0, len(ordered), batch_size):
            batch = ordered[begin : begin + batch_size]
            arrays = assembler.batch(batch)
            logits, adapted = self.model.forward_with_adapter(arrays.x, arrays.frames, arrays.conditioning)
            probabilities = np.array(regularizers.log_probabilities(logits))
            adapter_metrics = [np.array(values) for values in (adapted.drift, adapted.capped)] if adapted else None
            for index, example in enumerate(batch):
                row = self._recognize_one(features, example, probabilities[index], (alignment or {}).get(example.id))
                if adapter_metrics:
                    row |= {
                        "ttt_drift": float(adapter_metrics[0][index]),
                        "ttt_capped": float(adapter_metrics[1][index]),
                    }
                yield example, row
            on_row(len(batch))

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

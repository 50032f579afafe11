"""What a head hears: utterances to rows of recognised text, reference, edits, scalars and partition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thunder.acoustic import labels
from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.batches.collate import Assembler
from thunder.acoustic.dataset.utterances import Example, Frames
from thunder.acoustic.decoding.beam_search import greedy
from thunder.acoustic.head import regularizers
from thunder.acoustic.head.ctc_head import Head, frames_out
from thunder.acoustic.head.head_file import Loaded
from thunder.acoustic.inference import edits_by_partition
from thunder.acoustic.trajectory.scalars import SCALARS
from thunder.acoustic.trajectory.training_statistics import Tables
from thunder.text import distance

Decoder = Callable[[np.ndarray], Sequence[int]]


@dataclass(frozen=True)
class Recogniser:
    """A head with what it needs to hear; `settings` are those that it was trained with, or others for the test.

    decode: log probabilities [T, V] -> label ids.
    """

    model: Head
    tables: Tables
    settings: AcousticSettings
    decode: Decoder = greedy

    @classmethod
    def of(cls, loaded: Loaded, ttt_lr: float | None = None, decode: Decoder = greedy) -> Recogniser:
        """A checkpoint's; ttt_lr: another learning rate of its fast weights."""
        settings = loaded.origin.settings
        if ttt_lr is not None and loaded.model.adapter is not None:
            loaded.model.adapter.rate = ttt_lr
            settings = settings.model_copy(update={"ttt_lr": ttt_lr})
        return cls(loaded.model, loaded.tables, settings, decode)

    def rows(
        self,
        features: Frames,
        examples: Sequence[Example],
        batch_size: int,
        on_row: Callable[[int], None] = lambda count: None,
        aligned: Mapping[str, Sequence[str]] | None = None,
    ) -> Iterator[tuple[Example, dict[str, Any]]]:
        """Each example with its row (but for what only the run knows), utterances of like length together.

        aligned: id -> partition of each reference character, by another head; else by this one. on_row: gets counts.
        """
        assembler = Assembler(self.settings, features, self.tables)
        ordered = sorted(examples, key=lambda one: (one.frames, one.id))
        self.model.eval()
        for start in range(0, len(ordered), batch_size):
            batch = ordered[start : start + batch_size]
            arrays = assembler.batch(batch)
            logits, adapted = self.model.run(arrays.x, arrays.frames, arrays.conditioning)
            probabilities = np.array(regularizers.log_probabilities(logits))
            moved = [np.array(each) for each in (adapted.drift, adapted.capped)] if adapted else None
            for place, example in enumerate(batch):
                said = self._heard(features, example, probabilities[place], (aligned or {}).get(example.id))
                if moved:
                    said |= {"ttt_drift": float(moved[0][place]), "ttt_capped": float(moved[1][place])}
                yield example, said
            on_row(len(batch))

    def _heard(
        self, features: Frames, example: Example, probabilities: np.ndarray, of_characters: Sequence[str] | None
    ) -> dict[str, Any]:
        """One utterance's row, without what stands on a reference where it has none.

        probabilities: log ones [T', V], padding included.
        """
        frames = frames_out(example.frames, self.settings.downsample)
        alphabet = labels.ALPHABETS[self.settings.script]
        text = alphabet.decode(list(self.decode(probabilities[:frames])))
        scalars = self.tables.scalars(features.of(example), self.settings.downsample)
        said = {
            "asr_text": text,
            "trajectory_scalars": dict(zip(SCALARS, map(float, scalars.mean(0)), strict=True)),
            "partition": self.tables.row_partition(scalars),
            "frames": frames,
        }
        if not example.text:
            return said
        if of_characters is None:
            limits = self.tables.frame_limits
            spelled = (probabilities[:frames], example.labels, example.text, alphabet.form)
            of_characters = edits_by_partition.partitions_of(*spelled, scalars, limits)
        count, words = distance.count_errors(text, example.text), distance.count_errors(text, example.text, "word")
        return said | {
            "reference_text": example.text,
            "cer_edits": count.edits,
            "reference_chars": count.reference_chars,
            "wer_edits": words.edits,
            "reference_words": words.reference_chars,
            "character_partitions": list(of_characters),
            "edits_by_partition": edits_by_partition.counts(text, example.text, of_characters),
        }

"""What a head hears: utterances to rows of recognised text, reference, edits, scalars and partition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thunder.acoustic import characters, labels, regularise
from thunder.acoustic.batches import Assembler
from thunder.acoustic.data import Example, Source
from thunder.acoustic.decode import greedy
from thunder.acoustic.model import Head, frames_out
from thunder.acoustic.settings import AcousticSettings
from thunder.acoustic.tables import Tables
from thunder.acoustic.trajectory import SCALARS
from thunder.acoustic.weights import Loaded
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
        features: Source,
        examples: Sequence[Example],
        batch_size: int,
        on_row: Callable[[int], None] = lambda count: None,
        aligned: Mapping[str, Sequence[str]] | None = None,
    ) -> Iterator[tuple[Example, dict[str, Any]]]:
        """Each example with its row (but for what only the run knows), utterances of like length together.

        aligned: id -> partition of each reference character, by another head; else by this one. on_row: gets counts.
        """
        for example, probabilities, moved in self.hear(features, examples, batch_size):
            yield example, self._row(features, example, probabilities, (aligned or {}).get(example.id)) | moved
            on_row(1)

    def hear(
        self, features: Source, examples: Sequence[Example], batch_size: int
    ) -> Iterator[tuple[Example, np.ndarray, dict[str, float]]]:
        """Each example with its log probabilities [T', V], and what the fast weights did."""
        assembler = Assembler(self.settings, features, self.tables)
        ordered = sorted(examples, key=lambda one: (one.frames, one.id))
        self.model.eval()
        for start in range(0, len(ordered), batch_size):
            batch = ordered[start : start + batch_size]
            arrays = assembler.batch(batch)
            logits, adapted = self.model.run(arrays.x, arrays.frames, arrays.conditioning)
            probabilities = np.array(regularise.log_probabilities(logits))
            moved = {}
            if adapted:
                moved = {"ttt_drift": np.array(adapted.drift), "ttt_capped": np.array(adapted.capped)}
            for place, example in enumerate(batch):
                frames = frames_out(example.frames, self.settings.downsample)
                yield example, probabilities[place, :frames], {name: float(of[place]) for name, of in moved.items()}

    def text(self, probabilities: np.ndarray) -> str:
        """What log probabilities [T', V] say (NFC)."""
        return labels.ALPHABETS[self.settings.script].decode(list(self.decode(probabilities)))

    def _row(
        self, features: Source, example: Example, probabilities: np.ndarray, of_characters: Sequence[str] | None
    ) -> dict[str, Any]:
        """One utterance's row."""
        text, form = self.text(probabilities), labels.ALPHABETS[self.settings.script].form
        scalars = self.tables.scalars(features.of(example), self.settings.downsample)
        if of_characters is None:
            spelled = (probabilities, example.labels, example.text, form)
            of_characters = characters.partitions_of(*spelled, scalars, self.tables.frame_limits)
        count, words = distance.count(text, example.text), distance.count(text, example.text, "word")
        return {
            "asr_text": text,
            "reference_text": example.text,
            "cer_edits": count.edits,
            "reference_chars": count.reference_chars,
            "wer_edits": words.edits,
            "reference_words": words.reference_chars,
            "trajectory_scalars": dict(zip(SCALARS, map(float, scalars.mean(0)), strict=True)),
            "partition": self.tables.row_partition(scalars),
            "character_partitions": list(of_characters),
            "edits_by_partition": characters.counts(text, example.text, of_characters),
            "frames": len(probabilities),
        }

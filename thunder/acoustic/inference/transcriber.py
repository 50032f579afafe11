"""Recordings to rows of recognised text, with the features that the head was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thunder.acoustic.acoustic_settings import TranscribeSettings
from thunder.acoustic.dataset.utterances import Example
from thunder.acoustic.features import audio, frontend
from thunder.acoustic.features.feature_settings import FeatureSettings
from thunder.acoustic.features.recipe import Recipe
from thunder.acoustic.features.recordings import Recording
from thunder.acoustic.features.shard import as_stored
from thunder.acoustic.head.head_file import Origin
from thunder.acoustic.inference.recognizer import Recogniser
from thunder.acoustic.trajectory import scalars
from thunder.corpora.rows.correction_rows import SCHEMA
from thunder.errors import ArtifactError, CorpusError, ModelError


@dataclass
class _Heap:
    """Features of some recordings in memory, in the place of a store."""

    kept: list[np.ndarray] = field(default_factory=list)

    def of(self, example: Example) -> np.ndarray:
        """[T, D] float32."""
        return self.kept[example.position]


def front_end(settings: TranscribeSettings, origin: Origin) -> frontend.FrontEnd:
    """Makes features as the head's were made, long recordings aside.

    Raises ModelError where Whisper's weights are needed and not named, ArtifactError where they are others.
    """
    recipe = Recipe.model_validate(origin.recipe)
    if recipe.kind == "whisper" and not settings.whisper:
        raise ModelError("the head was trained on features of a Whisper model", "name its folder: --whisper FOLDER")
    asked = FeatureSettings(
        features=recipe.kind, model=settings.whisper if recipe.kind == "whisper" else None,
        n_mels=recipe.n_mels if recipe.kind == "logmel" else None, subsample=recipe.subsample,
        subsample_how=recipe.how, dtype=recipe.dtype, precision=recipe.precision, long_audio=recipe.long_audio,
        out="",
    )  # fmt: skip
    made = frontend.of_settings(asked)
    if differing := made.recipe.differences(recipe):
        raise ArtifactError(
            f"{settings.whisper or 'features'}: not what the head was trained on: {'; '.join(differing)}",
            "give the model that made its features",
        )
    return made


def transcribe(
    settings: TranscribeSettings,
    recogniser: Recogniser,
    source: frontend.FrontEnd,
    recordings: Sequence[Recording],
    run_id: str,
    refuse: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """A row for each recording, in their order: text, partition, scalars; a correction row without its reference.

    refuse: told of each recording that cannot be heard. Features are of `source`, rounded as a store rounds them.
    """
    for start in range(0, len(recordings), settings.batch_size):
        heap, heard = _Heap(), []
        for one in recordings[start : start + settings.batch_size]:
            try:
                sound = _sound(one, settings.long_audio)
                heap.kept.append(as_stored(frontend.features_of(source, sound.samples), source.recipe.dtype))
            except CorpusError as error:
                refuse(error.message)
            else:
                heard.append((one, sound))
        examples = [Example(str(place), 0, place, len(features), (), "") for place, features in enumerate(heap.kept)]
        rows = {one.position: row for one, row in recogniser.rows(heap, examples, settings.batch_size)}
        for place, (one, sound) in enumerate(heard):
            yield {
                "schema": SCHEMA,
                "feat_id": one.id,
                "audio_id": one.sha256,
                "audio": str(one.path),
                "script": recogniser.settings.script,
                "mode": recogniser.settings.mode_name,
                **rows[place],
                "trajectory_schema": scalars.SCHEMA,
                "seconds": round(sound.seconds, 6),
                "notes": list(sound.notes),
                "run_id": run_id,
            }


def _sound(recording: Recording, long_audio: str) -> audio.Audio:
    """The samples of a recording. Raises CorpusError where it cannot be heard, or is too long and is to be refused."""
    sound = audio.load(recording.path)
    if sound.seconds > audio.WINDOW and long_audio == "refuse":
        raise CorpusError(f"{recording.path}: is {sound.seconds:.1f} s long, more than 30 s", "--long-audio windows")
    return sound

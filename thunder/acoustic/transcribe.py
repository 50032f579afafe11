"""Recordings to text: the features that a checkpoint was trained on, made anew, and what its head hears in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thunder.acoustic import audio, frontend
from thunder.acoustic.data import Example
from thunder.acoustic.feature_settings import FeatureSettings
from thunder.acoustic.recipe import Recipe
from thunder.acoustic.recognise import Recogniser
from thunder.acoustic.trajectory import SCALARS
from thunder.acoustic.weights import Loaded
from thunder.errors import ArtifactError, CorpusError, several


class Held:
    """Features of a few examples in memory."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays

    def of(self, example: Example) -> np.ndarray:
        """[T, D] float32."""
        return self.arrays[example.id]


def frontend_of(loaded: Loaded, model: str | None, where: str) -> frontend.FrontEnd:
    """What makes the features that a head was trained on. model: folder of the Whisper model, where it is of one.

    Raises ModelError where Whisper's weights are needed and not named, ArtifactError where they are other ones.
    """
    recipe = Recipe.model_validate(loaded.origin.recipe)
    made = frontend.of_settings(
        FeatureSettings(
            features=recipe.kind,
            model=model if recipe.kind == "whisper" else None,
            n_mels=recipe.n_mels if recipe.kind == "logmel" else None,
            subsample=recipe.subsample,
            subsample_how=recipe.how,
            dtype=recipe.dtype,
            precision=recipe.precision,
            long_audio=recipe.long_audio,
            out="",
        )
    )
    if made.recipe.digest() != loaded.origin.recipe_digest:
        raise ArtifactError(
            f"{where}: was trained on features of another recipe: {'; '.join(made.recipe.differences(recipe))}",
            fix="name the Whisper model that its features were made with",
        )
    return made


def transcripts(
    loaded: Loaded, recogniser: Recogniser, source: frontend.FrontEnd, files: Sequence[Path], batch_size: int
) -> Iterator[dict[str, Any]]:
    """A row for each file, in their order: audio, text, seconds, notes, scalars and partition.

    Raises CorpusError that names every file which cannot be used, before anything is heard.
    """
    heard: list[tuple[Path, audio.Audio]] = []
    faults = []
    for path in files:
        try:
            heard.append((path, audio.load(path)))
        except CorpusError as error:
            faults.append(error.message)
    if faults:
        raise several(CorpusError, f"{len(faults)} of {len(files)} recordings cannot be used:", faults, fix="mend them")
    for start in range(0, len(heard), batch_size):
        yield from _batch(loaded, recogniser, source, heard[start : start + batch_size])


def _batch(
    loaded: Loaded, recogniser: Recogniser, source: frontend.FrontEnd, heard: Sequence[tuple[Path, audio.Audio]]
) -> Iterator[dict[str, Any]]:
    recipe, settings = Recipe.model_validate(loaded.origin.recipe), recogniser.settings
    arrays, examples = {}, []
    for number, (path, sound) in enumerate(heard):
        features = frontend.features_of(source, sound.samples)
        if recipe.dtype == "fp16":  # as they are stored, and were trained on
            features = features.astype(np.float16).astype(np.float32)
        frames = -(-len(features) // settings.downsample)
        if loaded.model.longest and frames > loaded.model.longest:
            raise CorpusError(
                f"{path}: {sound.seconds:.0f} s make {frames} frames, and the head takes {loaded.model.longest}",
                fix="cut it into utterances",
            )
        name = str(number)
        arrays[name] = features
        examples.append(Example(name, 0, number, len(features), (), ""))
    held, said = Held(arrays), {}
    for example, probabilities, moved in recogniser.hear(held, examples, len(examples)):
        scalars = recogniser.tables.scalars(held.of(example), settings.downsample)
        said[example.id] = {
            "text": recogniser.text(probabilities),
            "trajectory_scalars": dict(zip(SCALARS, map(float, scalars.mean(0)), strict=True)),
            "partition": recogniser.tables.row_partition(scalars),
            **moved,
        }
    for number, (path, sound) in enumerate(heard):
        yield {"audio": str(path), "seconds": sound.seconds, "notes": list(sound.notes), **said[str(number)]}

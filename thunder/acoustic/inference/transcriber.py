"""Transcribe recordings: make the features that the head was trained on, then recognize them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thunder.acoustic.acoustic_settings import TranscribeSettings
from thunder.acoustic.dataset.utterances import AcousticExample
from thunder.acoustic.features import audio, frontend
from thunder.acoustic.features.feature_settings import FeatureSettings
from thunder.acoustic.features.recipe import Recipe
from thunder.acoustic.features.recordings import Recording, load_recording
from thunder.acoustic.features.shard import round_as_stored
from thunder.acoustic.head.head_file import HeadOrigin
from thunder.acoustic.inference.recognizer import Recognizer
from thunder.acoustic.sound_files.sound_fault import in_one_line
from thunder.acoustic.trajectory import scalars
from thunder.corpora.rows.correction_rows import SCHEMA
from thunder.errors import ArtifactError, CorpusError, ModelError


@dataclass
class _InMemoryFeatures:
    """Features of some recordings in memory; replaces a store."""

    features: list[np.ndarray] = field(default_factory=list)

    def features_of(self, example: AcousticExample) -> np.ndarray:
        """[T, D] float32."""
        return self.features[example.position]


def build_front_end(settings: TranscribeSettings, origin: HeadOrigin) -> frontend.FrontEnd:
    """A front end with the recipe of the head's features; only `long_audio` may differ.

    Raises ModelError if Whisper's weights are needed and not given, ArtifactError if they are other weights.
    """
    recipe = Recipe.model_validate(origin.recipe)
    if recipe.kind == "whisper" and not settings.whisper:
        raise ModelError("the head was trained on features of a Whisper model", "give its folder: --whisper FOLDER")
    requested = FeatureSettings(
        features=recipe.kind, model=settings.whisper if recipe.kind == "whisper" else None,
        n_mels=recipe.n_mels if recipe.kind == "logmel" else None, subsample=recipe.subsample,
        subsample_how=recipe.how, dtype=recipe.dtype, precision=recipe.precision, long_audio=recipe.long_audio,
        out="",
    )  # fmt: skip
    front_end = frontend.build_front_end(requested)
    front_end.adopt_model_digest(recipe.model)
    if differences := front_end.recipe.differences(recipe):
        raise ArtifactError(
            f"{settings.whisper or 'features'}: differs from the recipe that the head was trained on: "
            f"{'; '.join(differences)}",
            "give the model that made its features",
        )
    return front_end


def transcribe_recordings(
    settings: TranscribeSettings,
    recognizer: Recognizer,
    front_end: frontend.FrontEnd,
    recordings: Sequence[Recording],
    run_id: str,
    on_fault: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """A row for each recording, in order: text, partition, scalars; a correction row without reference.

    A silent recording has no text, with confidence 1.

    on_fault: called with a message for each unusable recording. Features come from `front_end`, rounded as in a store.
    """
    for start in range(0, len(recordings), settings.batch_size):
        features, readable = _InMemoryFeatures(), []
        for recording in recordings[start : start + settings.batch_size]:
            try:
                audio_samples = _load_audio(recording, settings)
                features.features.append(
                    round_as_stored(frontend.extract_frames(front_end, audio_samples.samples), front_end.recipe.dtype)
                )
            except CorpusError as error:
                on_fault(in_one_line(error))
            else:
                readable.append((recording, audio_samples))
        examples = [
            AcousticExample(str(index), 0, index, len(features), (), "")
            for index, features in enumerate(features.features)
        ]
        rows = {example.position: row for example, row in recognizer.recognize(features, examples, settings.batch_size)}
        for index, (recording, audio_samples) in enumerate(readable):
            yield {
                "schema": SCHEMA,
                "feat_id": recording.id,
                "audio_id": recording.sha256,
                "audio": str(recording.path),
                "script": recognizer.settings.script,
                "mode": recognizer.settings.mode_name,
                **rows[index],
                **({"asr_text": "", "confidence": 1.0} if audio_samples.silent else {}),
                "trajectory_schema": scalars.SCHEMA,
                "seconds": round(audio_samples.seconds, 6),
                "notes": list(audio_samples.notes),
                "run_id": run_id,
            }


def _load_audio(recording: Recording, settings: TranscribeSettings) -> audio.Audio:
    """The samples of a recording. Raises CorpusError if it is unusable, or too long and `long_audio` is "refuse"."""
    samples = load_recording(recording, settings.channel)
    if samples.seconds > audio.WINDOW_SECONDS and settings.long_audio == "refuse":
        raise CorpusError(
            f"{recording.path}: is {samples.seconds:.1f} s long, more than 30 s", "give --long-audio windows"
        )
    return samples

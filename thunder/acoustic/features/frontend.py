"""Compute feature frames from samples: log-mel or Whisper encoder, valid frames only, subsampled."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from thunder.acoustic.features.audio import count_frames, split_windows
from thunder.acoustic.features.feature_settings import FeatureSettings
from thunder.acoustic.features.log_mel import FRAMES, log_mel
from thunder.acoustic.features.recipe import How, Recipe
from thunder.acoustic.features.whisper_config import LOGMEL_HINT, read_sizes
from thunder.errors import ModelError

WHISPER_HOP = 320  # samples of one frame of the encoder
_N_MELS = 80


class FrontEnd(Protocol):
    """Computes features: `recipe` describes them, `width` is D."""

    recipe: Recipe
    width: int

    def window_frames(self, samples: np.ndarray) -> np.ndarray:
        """[S] samples of at most 30 s -> valid frames [T, D], not yet subsampled."""
        ...

    def adopt_model_digest(self, recipe_model: str | None) -> None:
        """Put an existing recipe's `model` into `recipe` where it is the digest that earlier versions gave this model.

        Features and heads of those versions are then continued with the weights that made them.
        """
        ...


class LogMelFrontEnd:
    """Whisper's log-mel spectrogram, 100 frames a second."""

    def __init__(self, settings: FeatureSettings) -> None:
        self.width = settings.n_mels or _N_MELS
        self.recipe = _recipe(settings, self.width, None)

    def adopt_model_digest(self, recipe_model: str | None) -> None:
        """See FrontEnd; a spectrogram has no model."""

    def window_frames(self, samples: np.ndarray) -> np.ndarray:
        """See FrontEnd."""
        return log_mel(samples, self.width)


class WhisperFrontEnd:
    """The last layer of Whisper's encoder, 50 frames a second. Audio is padded to 30 s; frames of padding are
    dropped.
    """

    def __init__(self, settings: FeatureSettings) -> None:
        from thunder.acoustic.features import whisper_weights

        self._encoder, self._digests = whisper_weights.load_encoder(model_folder(settings), settings.precision)
        self.width, self._n_mels = self._encoder.sizes.width, self._encoder.sizes.n_mels
        self.recipe = _recipe(settings, self._n_mels, self._digests.computed)

    def adopt_model_digest(self, recipe_model: str | None) -> None:
        """See FrontEnd."""
        if recipe_model == self._digests.stored:
            self.recipe = self.recipe.model_copy(update={"model": recipe_model})

    def window_frames(self, samples: np.ndarray) -> np.ndarray:
        """See FrontEnd."""
        import mlx.core as mx

        mel = mx.array(log_mel(samples, self._n_mels, FRAMES))
        frames = self._encoder(mel[None])[0, : count_frames(len(samples), WHISPER_HOP)]
        return np.array(frames.astype(mx.float32))


def build_front_end(settings: FeatureSettings) -> FrontEnd:
    """The front end that the settings name; no fallback. Raises ModelError if Whisper's weights are missing."""
    return LogMelFrontEnd(settings) if settings.features == "logmel" else WhisperFrontEnd(settings)


def feature_width(settings: FeatureSettings) -> int:
    """D, without loading weights. Raises ModelError if config.json is missing or invalid."""
    if settings.features == "logmel":
        return settings.n_mels or _N_MELS
    return read_sizes(model_folder(settings)).width


def model_folder(settings: FeatureSettings) -> Path:
    """The folder of the Whisper model. Raises ModelError if none was given."""
    if not settings.model:
        raise ModelError(
            "features of Whisper need its weights, and no --model was given",
            f"give --model FOLDER with config.json and model.safetensors, {LOGMEL_HINT}",
        )
    return Path(settings.model).expanduser()


def extract_frames(frontend: FrontEnd, samples: np.ndarray) -> np.ndarray:
    """[S] samples of any length -> [T, D], subsampled; each window of 30 s is processed separately."""
    frames = np.concatenate([frontend.window_frames(piece) for piece in split_windows(samples)])
    return subsample_frames(frames, frontend.recipe.subsample, frontend.recipe.how)


def subsample_frames(frames: np.ndarray, every: int, how: How) -> np.ndarray:
    """[T, D] -> [ceil(T / every), D]: the first frame of each group, or its mean; the last group may be smaller."""
    if how == "stride" or every == 1:
        return frames[::every]
    starts = np.arange(0, len(frames), every)
    counts = np.diff([*starts, len(frames)])[:, None]
    return (np.add.reduceat(frames.astype(np.float64), starts) / counts).astype(np.float32)


def _recipe(settings: FeatureSettings, n_mels: int, model: str | None) -> Recipe:
    return Recipe(
        kind=settings.features, n_mels=n_mels, model=model, subsample=settings.every, how=settings.subsample_how,
        dtype=settings.dtype, precision=settings.precision, long_audio=settings.long_audio,
    )  # fmt: skip

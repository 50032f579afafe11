"""The recipe of features: every option that changes their values, with a digest to compare recipes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from thunder.config import Settings

RATE = 16000  # samples per second of all audio after loading
Kind = Literal["whisper", "logmel"]
How = Literal["stride", "mean"]
Stored = Literal["fp16", "int8"]
Precision = Literal["float32", "float16"]
LongAudio = Literal["refuse", "windows"]
# frames per second before subsampling: Whisper's convolutions halve the spectrogram's rate
_BARE_RATE = {"whisper": 50, "logmel": 100}


class Recipe(Settings):
    """Every option that changes the values of features.

    model: digest of the values that the encoder computes with (whisper only; earlier versions: of the tensors in its
    files). subsample, how: keep one of N frames, or the mean of N.
    dtype: as stored. precision: of the encoder's arithmetic. long_audio: treatment of recordings over 30 s.
    """

    kind: Kind
    n_mels: int = Field(80, ge=1)
    model: str | None = None
    subsample: int = Field(1, ge=1)
    how: How = "stride"
    dtype: Stored = "fp16"
    rate: int = Field(RATE, ge=1)
    precision: Precision = "float32"
    long_audio: LongAudio = "refuse"

    @model_validator(mode="after")
    def _model_where_there_is_one(self) -> Recipe:
        if (self.kind == "whisper") != (self.model is not None):
            raise ValueError("'model' is the digest of a Whisper encoder: whisper has one, logmel has none")
        return self

    @property
    def frames_per_second(self) -> float:
        """Stored frames per second."""
        return _BARE_RATE[self.kind] / self.subsample

    def differences(self, other: Recipe) -> list[str]:
        """Differences from another recipe, such as 'subsample 4, not 2'."""
        values, other_values = self.resolved(), other.resolved()
        return [
            f"{name} {values[name]}, not {other_values[name]}" for name in values if values[name] != other_values[name]
        ]

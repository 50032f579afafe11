"""Options of making features; nothing here needs MLX."""

from __future__ import annotations

from pydantic import model_validator

from thunder.acoustic.features.recipe import How, Kind, LongAudio, Precision, Stored
from thunder.config import Settings, option

INPUT, FEATURES, OUTPUT = "Input", "Features", "Output"


class FeatureSettings(Settings):
    """Options of `thunder asr features`: recordings to a store of frozen features."""

    inputs: list[str] = option(
        [],
        "Files of rows (metadata.jsonl), folders with one, folders of audio files, or audio files.",
        panel=INPUT,
    )
    channel: int | None = option(
        None,
        "Channel of each recording to use, the first is 0 (default: the average of all).",
        aliases=["channel-selector"],
        panel=INPUT,
        added_later=True,
        ge=0,
    )
    texts: str | None = option(
        None, "Table of texts by id ('feat_id', 'nko', 'latin') for the recordings; it replaces texts of their rows.",
        panel=INPUT, added_later=True,
    )  # fmt: skip
    keep_going: bool = option(False, "Exclude and count rows and recordings that cannot be used.", panel=INPUT)
    long_audio: LongAudio = option(
        "refuse",
        "A recording of more than 30 s: refuse it, or extract features of each 30 s separately (windows).",
        panel=INPUT,
    )

    features: Kind = option(
        "whisper",
        "whisper: the encoder's frames (1500 per 30 s); logmel: Whisper's log-mel spectrogram (3000), without weights.",
        panel=FEATURES,
    )
    model: str | None = option(None, "Folder of a Whisper model with config.json and weights.", panel=FEATURES)
    n_mels: int | None = option(
        None,
        "Bands of the spectrogram (default: 80 for logmel; a Whisper model sets its own).",
        panel=FEATURES,
        ge=8,
        le=256,
    )
    subsample: int | None = option(
        None, "Keep one frame of this many (default: 4 for whisper, 1 for logmel).", panel=FEATURES, ge=1, le=100
    )
    subsample_how: How = option("stride", "Keep every Nth frame (stride), or the mean of N (mean).", panel=FEATURES)
    dtype: Stored = option("fp16", "fp16, or int8 with a scale for each frame (half the size).", panel=FEATURES)
    precision: Precision = option("float32", "Arithmetic of the encoder; float16 is for GPUs.", panel=FEATURES)

    out: str = option(..., "Folder of the features; an extraction with the same options is resumed.", panel=OUTPUT)
    part: str = option(
        "1/1",
        "I/N: extract only part I of N, for example one on each host; `thunder asr merge` joins them.",
        panel=OUTPUT,
    )
    shard_bytes: int = option(1_000_000_000, "Close a shard when it has this many bytes.", panel=OUTPUT, ge=1)

    @model_validator(mode="after")
    def _options_of_the_kind(self) -> FeatureSettings:
        if self.features == "logmel" and self.model:
            raise ValueError("'model' applies to 'features' whisper; logmel has no model")
        if self.features == "logmel" and self.precision != "float32":
            raise ValueError("'precision' applies to 'features' whisper; logmel has no encoder")
        if self.features == "whisper" and self.n_mels:
            raise ValueError("'n_mels' applies to 'features' logmel; a Whisper model sets its own")
        return self

    @property
    def every(self) -> int:
        """Subsampling factor: one of this many frames is kept."""
        return self.subsample or {"whisper": 4, "logmel": 1}[self.features]

"""Options of training and testing an acoustic model; nothing here needs MLX."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator, model_validator

from thunder.acoustic.decoding.decoder import DecodingSettings
from thunder.acoustic.features.recipe import LongAudio
from thunder.config import option
from thunder.training.loop_settings import LOOP, OPTIMIZER, OUTPUT, LoopSettings

MODEL, DATA, MODES, AUGMENTATION = "Head", "Data", "Modes (docs/explanation/modes.md)", "Augmentation"
PARTS = ("trajectory", "tar", "cr", "ttt")  # what a mode is put together from, in the order of its name
BASELINE = "baseline"
REGULARIZERS = ("tar", "cr")


class AcousticSettings(LoopSettings):
    """Options of `thunder asr train`: a CTC head over frozen features. Defaults are the published settings."""

    features: list[str] = option(..., "Feature folders made by `thunder asr features`, of one recipe.", panel=DATA)
    script: Literal["nko", "latin"] = option(
        "nko", "Script of the labels; texts of the other script are transliterated.", panel=DATA
    )
    drop: str = option(
        "", "Characters that are left out of the texts, such as ',.!?'; any other without a label is an error.",
        panel=DATA,
    )  # fmt: skip
    texts: str | None = option(
        None, "Table of texts by id ('feat_id', 'nko', 'latin') that take the place of the features' own texts.",
        panel=DATA, added_later=True,
    )  # fmt: skip
    split: str | None = option(
        None, "A frozen split.json to use (default: the features' own split, else one made here).", panel=DATA
    )
    test_speakers: list[str] = option([], "Speakers whose utterances are the test.", panel=DATA)
    test_ids: list[str] = option([], "Ids of more test utterances; * and ? stand for anything.", panel=DATA)
    valid_speakers: list[str] = option([], "Speakers whose utterances are for validation.", panel=DATA)
    valid_ids: list[str] = option([], "Ids of more validation utterances; * and ? stand for anything.", panel=DATA)
    holdout: float = option(
        0.1, "Share held out for each of validation and test that nothing else names, by speaker where it is known.",
        panel=DATA, ge=0, lt=0.5,
    )  # fmt: skip
    max_seq_length: int = option(
        3000, "Longest utterance in feature frames; longer ones are left out, counted and named.",
        aliases=["max-frames"], panel=DATA, ge=8,
    )  # fmt: skip

    mode: str = option(BASELINE, f"{BASELINE}, or any of {', '.join(PARTS)} joined by +: trajectory+ttt.", panel=MODES)
    reg: Literal["none", "tar", "cr"] | None = option(None, "Regularizer (default: what the mode names).", panel=MODES)
    reg_weight: float | None = option(None, "Its weight (default: 0.1 for tar, 0.2 for cr).", panel=MODES, ge=0)
    conditioning: Literal["add", "attn-bias"] = option(
        "add", "Where the trajectory's scalars enter: added to the frames, or to the logits of attention.", panel=MODES
    )
    control: Literal["none", "shuffled"] = option(
        "none", "'shuffled' gives the trajectory its scalars in a random order of frames.", panel=MODES
    )
    codebook: int = option(256, "Codes of the trajectory's codebook, from k-means.", panel=MODES, ge=2)
    use_ttt: bool = option(False, "Add the test-time-training adapter to any mode.", panel=MODES)
    ttt_chunk_size: int = option(16, "Frames of one step of the fast weights.", panel=MODES, ge=1)
    ttt_lr: float = option(0.01, "Their learning rate; 0 = exactly the model without them.", panel=MODES, ge=0)
    ttt_cap: bool = option(True, "Cap the step where a chunk's keys would let it diverge.", panel=MODES)
    ttt_heads: int = option(4, "Heads of the adapter.", panel=MODES, ge=1)
    ttt_head_dim: int = option(64, "Width of a head's fast weights.", panel=MODES, ge=8)

    head: Literal["transformer-768", "small"] = option(
        "transformer-768", "Size of the head: 46.9 M parameters over 1280 features, or one for a laptop.", panel=MODEL
    )
    downsample: int = option(
        1, "Frames of the features that become one of the head's, on top of --subsample.", panel=MODEL, ge=1, le=4
    )
    start_from: str | None = option(
        None, "Begin with the weights of this checkpoint (a run's best.safetensors) of the same head and alphabet.",
        panel=MODEL,
    )  # fmt: skip
    causal: bool = option(False, "Attention and convolution see no later frame of the features.", panel=MODEL)
    dropout: float = option(0.1, "Dropout in the head.", panel=MODEL, ge=0, lt=1)
    dropout_draw: Literal["row", "batch"] = option(
        "row",
        "Draw dropout for each row, the same on any number of ranks, or for each batch, as version 0.1.0 did.",
        panel=MODEL,
        added_later=True,
        value_before="batch",
    )
    normalize: Literal["training", "utterance"] = option(
        "training",
        "Mean and deviation of the features: of the training set, or of each utterance.",
        old_names=["normalise"],
        panel=MODEL,
    )

    time_masks: int = option(0, "Stretches of frames to blank in each training utterance.", panel=AUGMENTATION, ge=0)
    time_mask_share: float = option(
        0.15, "Longest such stretch, as a share of the utterance.", panel=AUGMENTATION, ge=0, le=1
    )
    feature_masks: int = option(0, "Bands of features to blank in each.", panel=AUGMENTATION, ge=0)
    feature_mask_share: float = option(
        0.15, "Widest such band, as a share of the features.", panel=AUGMENTATION, ge=0, le=1
    )
    speed: float = option(0.0, "Stretch or squeeze time by up to this share.", panel=AUGMENTATION, ge=0, lt=0.5)
    warp: float = option(
        0.0,
        "Stretch or squeeze the frequency axis by up to this share (log-mel only).",
        panel=AUGMENTATION,
        ge=0,
        lt=0.5,
    )

    # the published regime, which is torch's AdamW
    @property
    def bias_correction(self) -> bool:
        """See LoopSettings."""
        return True

    learning_rate: float = option(3e-4, "Peak learning rate.", aliases=["lr"], panel=OPTIMIZER, gt=0)
    iters: int = option(
        20000, "Iterations (batches over all ranks) to train for.", aliases=["num-iters", "max-steps"], panel=LOOP, ge=1
    )
    batch_size: int = option(
        32, "Rows per rank and iteration; the global batch is this times the number of ranks.", panel=LOOP, ge=1
    )
    patience: int = option(10, "Stop after this many validations without a better loss; 0 = never.", panel=LOOP, ge=0)
    seed: int = option(
        42, "Decides the order of rows, first weights, dropout and augmentation.", panel=LOOP, ge=0, lt=2**31
    )
    test_rows: int = option(
        100_000, "Test at most so many utterances at the end, in order of their ids' digests; 0 = no test.",
        panel=OUTPUT, ge=0,
    )  # fmt: skip

    @field_validator("mode")
    @classmethod
    def _known_parts(cls, mode: str) -> str:
        parts = mode.split("+")
        if mode != BASELINE and (unknown := [part for part in parts if part not in PARTS]):
            raise ValueError(f"{'+'.join(unknown)!r} is no mode; {BASELINE}, or {', '.join(PARTS)} joined by +")
        if len(set(parts)) < len(parts):
            raise ValueError(f"'{mode}' names a part twice")
        return mode

    @model_validator(mode="after")
    def _one_meaning(self) -> AcousticSettings:
        named = [part for part in self.mode.split("+") if part in REGULARIZERS]
        if len(named) > 1 or (named and self.reg not in (None, *named)):
            given = f"'mode' {self.mode}" + (f" and 'reg' {self.reg}" if self.reg else "")
            raise ValueError(f"{given} name two regularizers; give one of them")
        if self.control != "none" and "trajectory" not in self.parts:
            raise ValueError("'control' shuffles the scalars of the trajectory mode; give --mode trajectory with it")
        if self.grad_checkpoint:
            raise ValueError(
                "'grad_checkpoint' is not done for acoustic heads; a smaller 'batch_size' needs less memory"
            )
        return self

    @property
    def may_recompute(self) -> bool:
        """False: acoustic heads have no activation recomputation."""
        return False

    @property
    def parts(self) -> tuple[str, ...]:
        """Active parts of the mode, whichever flag requested them, in the order of PARTS."""
        on = {*self.mode.split("+"), self.reg, "ttt" if self.use_ttt else ""}
        return tuple(part for part in PARTS if part in on)

    @property
    def mode_name(self) -> str:
        """Canonical name of the mode, as in result rows; with a control, the name contains it."""
        name = "+".join(self.parts) or BASELINE
        return name if self.control == "none" else name.replace("trajectory", f"trajectory-{self.control}")

    @property
    def regularizer(self) -> tuple[str, float]:
        """(none, tar or cr; its weight)."""
        name = next((part for part in self.parts if part in REGULARIZERS), "none")
        default = {"none": 0.0, "tar": 0.1, "cr": 0.2}[name]
        return name, default if self.reg_weight is None else self.reg_weight


class AcousticEvalSettings(DecodingSettings):
    """Options of `thunder asr eval`: a checkpoint's error rate on features."""

    run: str = option(
        ..., "Run whose best checkpoint is tested: id, folder, 'latest', or a safetensors file.", panel=DATA
    )
    features: list[str] = option([], "Feature folders (default: those of the run).", panel=DATA)
    texts: str | None = option(
        None, "Table of texts by id ('feat_id', 'nko', 'latin') (default: that of the run).",
        panel=DATA, added_later=True,
    )  # fmt: skip
    part: Literal["train", "valid", "test", "all"] | None = option(
        None, "Part of the run's split (default: test; all utterances where --features names other ones).", panel=DATA
    )
    align_with: str | None = option(
        None,
        "Run (of a baseline) whose alignment says to which frames a character belongs (default: the run's own).",
        panel=DATA,
    )
    ttt_lr: float | None = option(
        None, "Another learning rate of the fast weights; 0 = without them.", panel=MODES, ge=0
    )
    batch_size: int = option(32, "Rows at once.", panel=LOOP, ge=1)
    out: str | None = option(None, "Folder for the rows and metrics (default: none are written).", panel=OUTPUT)


class TranscribeSettings(DecodingSettings):
    """Options of `thunder asr transcribe`: recordings to text by a trained head."""

    inputs: list[str] = option([], "Audio files, folders of them, or metadata.jsonl files.", panel=DATA)
    run: str = option(
        "latest", "Run whose best checkpoint listens: id, folder, 'latest', or a safetensors file.", panel=DATA
    )
    whisper: str | None = option(
        None, "Folder of the Whisper model that made the head's features, where they are of one.", panel=DATA
    )
    long_audio: LongAudio = option(
        "windows", "More than 30 s: hear each 30 s by itself (windows), or refuse the recording.", panel=DATA
    )
    channel: int | None = option(
        None,
        "Channel of each recording to use, the first is 0 (default: the average of all).",
        aliases=["channel-selector"],
        panel=DATA,
        added_later=True,
        ge=0,
    )
    keep_going: bool = option(False, "Leave out what cannot be heard, and count it.", panel=DATA)
    ttt_lr: float | None = option(
        None, "Another learning rate of the fast weights; 0 = without them.", panel=MODES, ge=0
    )
    batch_size: int = option(16, "Recordings at once.", panel=LOOP, ge=1)
    out: str | None = option(None, "File for the rows (JSONL), written when all are heard.", panel=OUTPUT)

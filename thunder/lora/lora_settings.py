"""Options of LoRA training and of pretraining the tiny base; nothing here needs MLX."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from thunder.config import REPOSITORY, option
from thunder.training.loop_settings import LOOP, OPTIMIZER, OUTPUT, PLACE, LoopSettings
from thunder.units import parse_bytes

MODEL, DATA = "Model and adapter", "Data"
EMBEDDED_MODEL = REPOSITORY / "data" / "models" / "tiny-gemma4-nko"
EMBEDDED_DATA = REPOSITORY / "data" / "sample"
VALID_ROWS = 500
"""Rows of a validation where nothing else is said: at safe shapes it then takes less than the updates between two."""


class CorpusSettings(LoopSettings):
    """What both have in common: few epochs over the rows."""

    max_epochs: int = option(
        10, "Refuse to run more epochs over the training rows.", old_names=["max-wraps"], panel=DATA, ge=1
    )
    adam_bias_correction: bool = option(
        False, "Correct the bias of AdamW's moments, as torch does.", panel=OPTIMIZER, added_later=True
    )
    logs_epochs: ClassVar[bool] = True

    @property
    def bias_correction(self) -> bool:
        """See LoopSettings."""
        return self.adam_bias_correction


class LoraSettings(CorpusSettings):
    """Options of `thunder train`: LoRA on a Gemma (or any mlx-lm) model over ChatML rows."""

    model: str | None = option(
        None, "Folder or Hugging Face repository of the base model (default: the tiny one shipped here).", panel=MODEL
    )
    num_layers: int = option(
        4, "LoRA on the last so many layers; -1 = all.", aliases=["lora-layers"], panel=MODEL, ge=-1
    )
    lora_rank: int = option(8, "Rank of the LoRA matrices.", aliases=["rank"], panel=MODEL, ge=1)
    lora_scale: float = option(
        20.0,
        "Multiplies the LoRA product directly, as in mlx_lm (not alpha / rank).",
        aliases=["scale"],
        panel=MODEL,
        gt=0,
    )
    lora_dropout: float = option(0.0, "Dropout before the LoRA matrices.", aliases=["dropout"], panel=MODEL, ge=0, lt=1)
    lora_keys: list[str] | None = option(
        None,
        "Linear layers inside a block that get LoRA, such as self_attn.q_proj (default: all of them).",
        panel=MODEL,
    )
    resume_adapter_file: str | None = option(
        None, "Start from this adapter's weights (folder or file); steps and optimizer start anew.", panel=MODEL
    )
    chat_template_config: str | None = option(
        None,
        'Switches of the chat template as JSON, as in mlx_lm (default: {"enable_thinking": false}).',
        aliases=["chat-template-args"],
        panel=MODEL,
        added_later=True,
    )
    mask_prompt: bool = option(True, "Supervise only the last assistant turn.", panel=LOOP)

    data: str | None = option(
        None,
        "Folder with train.jsonl, and valid.jsonl and test.jsonl if there are (or .csv, .parquet, ...).",
        panel=DATA,
    )
    train_data: str | None = option(
        None, "Training rows (JSONL, JSON, CSV, TSV, Parquet; also .gz, .zst), instead of --data.", panel=DATA
    )
    valid_data: str | None = option(
        None, "Validation rows (default: a share of the training rows, by hash).", panel=DATA
    )
    test_data: str | None = option(
        None, "Test rows for CER before and after (default: a share of the training rows, by hash).", panel=DATA
    )
    holdout: float = option(
        0.02,
        "Share of the training rows held out for each of validation and test that has no file of its own.",
        panel=DATA,
        ge=0,
        lt=0.5,
    )
    split: Literal["own", "by-reference"] = option(
        "own",
        "Rows of the training file that name their part in a field 'split': own = in that part; by-reference = held "
        "out by hash like all others.",
        panel=DATA,
        added_later=True,
        value_before="by-reference",
    )
    group_by: str | None = option(
        None,
        "Hold out whole groups: rows with one value of this field, such as speaker_id, stay in one part.",
        panel=DATA,
        added_later=True,
    )
    fields: str | None = option(
        None,
        "Names of the rows' fields where they are not known: hyp=FIELD,ref=FIELD,id=FIELD; a FIELD inside another is "
        "asr.text.",
        panel=DATA,
        added_later=True,
    )
    test_rows: int = option(200, "Test at most so many rows at the end, chosen by hash; 0 = no test.", panel=DATA, ge=0)

    val_batches: int | None = option(
        None,
        f"Validate on so many batches of --batch-size rows, chosen by hash; -1 = all (default: at most {VALID_ROWS} "
        "rows).",
        panel=LOOP,
        added_later=True,
        value_before=-1,
        ge=-1,
    )
    test_batches: int | None = option(
        None,
        "Test so many batches of --batch-size rows at the end, instead of --test-rows; -1 = all.",
        panel=DATA,
        added_later=True,
        ge=-1,
    )
    epochs: float | None = option(
        None,
        "Train for so many epochs over the training rows, instead of --iters.",
        aliases=["num-epochs", "num-train-epochs"],
        panel=LOOP,
        added_later=True,
        gt=0,
    )

    chunk_words: int = option(
        0,
        "Cut corrections into chunks of about this many words, for training and the test; `thunder eval` has the same "
        "option. 0 = whole rows.",
        old_names=["window"],
        panel=DATA,
        ge=0,
    )
    min_margin: float | None = option(
        None,
        "In the test at the end: keep a text unless the answer is likelier by this many nats per code point.",
        panel=DATA,
        added_later=True,
    )
    change_margin: float | None = option(
        None,
        "In the test at the end: apply each change of an answer by itself, where it makes the text likelier by this "
        "many nats.",
        panel=DATA,
        added_later=True,
    )
    change_edits: int | None = option(
        None,
        "With --change-margin: leave out changes of more edits (code points) than this.",
        panel=DATA,
        added_later=True,
        ge=1,
    )
    prefix_cache: str = option(
        "auto",
        "Disk for what the frozen layers make of each row, computed once: a size such as 4GB for each host, auto = a "
        "quarter of what is free, off.",
        panel=PLACE,
    )
    preset: str | None = option(
        None, "Named safe shape from configs/presets; explicit options win over it.", panel=LOOP
    )
    adapter_path: str | None = option(None, "Copy the adapter here too when the run ends.", panel=OUTPUT)

    @model_validator(mode="after")
    def _one_source_of_rows(self) -> LoraSettings:
        if self.data and self.train_data:
            raise ValueError("'data' and 'train_data' both name training rows; give one of them")
        if self.prefix_cache not in ("auto", "off"):
            try:
                parse_bytes(self.prefix_cache)
            except ValueError as error:
                raise ValueError(f"'prefix_cache': {error}, auto or off") from None
        if self.num_layers == 0:
            raise ValueError("'num_layers' 0 would train nothing; give -1 for all layers or a positive number")
        if self.grad_checkpoint and not self.may_recompute:
            raise ValueError(
                "'grad_checkpoint' with 'lora_dropout' would give wrong gradients, for what is recomputed draws other "
                "masks; leave one out (a smaller 'batch_size' needs less memory too)"
            )
        return self

    @field_validator("chat_template_config", mode="before")
    @classmethod
    def _mapping_as_json(cls, value: Any) -> Any:
        """A mapping, as YAML has it, as the JSON text of the command line."""
        return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _switches_are_json(self) -> LoraSettings:
        try:
            if self.chat_template_config is not None and not isinstance(json.loads(self.chat_template_config), dict):
                raise ValueError
        except ValueError:
            raise ValueError(
                f"'chat_template_config' should be a JSON object such as {{\"enable_thinking\": false}}, not "
                f"{self.chat_template_config!r}"
            ) from None
        return self

    @model_validator(mode="after")
    def _one_decision(self) -> LoraSettings:
        if self.min_margin is not None and self.change_margin is not None:
            raise ValueError("'min_margin' and 'change_margin' both decide which answers count; give one of them")
        if self.change_edits is not None and self.change_margin is None:
            raise ValueError("'change_edits' needs 'change_margin'")
        return self

    @property
    def decoding(self) -> dict[str, Any]:
        """How the test decodes, as ModelEngine and `thunder eval` take it."""
        return {
            "chunk_words": self.chunk_words,
            "min_margin": self.min_margin,
            "change_margin": self.change_margin,
            "change_edits": self.change_edits,
        }

    @property
    def template_kwargs(self) -> dict[str, Any] | None:
        """The switches of the chat template; None for the default ones."""
        return None if self.chat_template_config is None else json.loads(self.chat_template_config)

    @property
    def most_valid_rows(self) -> int | None:
        """Validation rows at most; None for all."""
        if self.val_batches is None:
            return VALID_ROWS
        return None if self.val_batches == -1 else self.val_batches * self.batch_size

    @property
    def most_test_rows(self) -> int | None:
        """Test rows at most; None for all."""
        if self.test_batches is None:
            return self.test_rows
        return None if self.test_batches == -1 else self.test_batches * self.batch_size

    @property
    def may_recompute(self) -> bool:
        """See LoopSettings; MLX draws dropout's masks anew when it computes again."""
        return not self.lora_dropout


class PretrainSettings(CorpusSettings):
    """Options of `thunder pretrain`: the tiny base from open text, from scratch."""

    text_root: str = option(..., "Folder that the text files below are in.", panel=DATA)
    text: list[str] = option(
        ..., "Tab-separated text files with a header; the column named by `column` is read.", panel=DATA, min_length=1
    )
    column: str = option("nqo", "Column of the text.", panel=DATA)
    exclude_domains: list[str] = option([], "Leave out rows whose `domain` column says one of these.", panel=DATA)
    exclude_rows: list[str] = option(
        [], "Correction rows (JSONL files or folders) none of whose texts may be seen.", panel=DATA
    )
    heldout: float = option(0.02, "Share of text lines held out, by hash.", panel=DATA, gt=0, lt=0.5)
    heldout_lines: int = option(400, "Validate on at most so many held-out lines.", panel=DATA, ge=1)
    repair_share: float = option(
        0.7,
        "Share of sequences that copy or repair text in the chat format; the rest is plain text.",
        panel=DATA,
        ge=0,
        le=1,
    )
    max_words: int = option(8, "Longest piece of text to copy or repair, in words.", panel=DATA, ge=1)

    vocab_size: int = option(1024, "Tokens of the sentencepiece model, byte fallback included.", panel=MODEL, ge=320)
    hidden_size: int = option(128, "Width.", panel=MODEL, ge=16)
    num_hidden_layers: int = option(8, "Layers.", panel=MODEL, ge=2)
    num_kv_shared_layers: int = option(4, "Last layers that reuse keys and values of earlier ones.", panel=MODEL, ge=0)
    intermediate_size: int = option(384, "Width of the MLP (doubled in KV-shared layers).", panel=MODEL, ge=16)
    num_attention_heads: int = option(4, "Attention heads.", panel=MODEL, ge=1)
    head_dim: int = option(32, "Width of a head in sliding-window layers.", panel=MODEL, ge=8)
    global_head_dim: int = option(64, "Width of a head in full-attention layers.", panel=MODEL, ge=8)
    hidden_size_per_layer_input: int = option(16, "Width of the per-layer embeddings.", panel=MODEL, ge=1)
    sliding_window: int = option(64, "Reach of sliding-window attention, in tokens.", panel=MODEL, ge=8)
    sliding_window_pattern: int = option(4, "Every so many layers one has full attention.", panel=MODEL, ge=1)

    start_from: str | None = option(
        None,
        "Folder of a model of the same sizes to go on from, with its tokenizer (default: from scratch).",
        panel=MODEL,
    )

    out: str | None = option(None, "Copy the finished model here.", panel=OUTPUT)

    @model_validator(mode="after")
    def _layers_fit(self) -> PretrainSettings:
        if (
            self.num_kv_shared_layers
            and self.num_hidden_layers - self.num_kv_shared_layers < self.sliding_window_pattern
        ):
            raise ValueError(
                "KV sharing needs one layer of each attention kind below the shared ones: fewer 'num_kv_shared_layers'"
            )
        return self

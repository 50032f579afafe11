"""Encode chat rows as token ids with a supervised part, and pad batches of them. Needs no MLX."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from thunder.corpora.rows.chat_rows import ChatRow
from thunder.errors import ModelError
from thunder.text.chat import GEMMA3_TEMPLATE, GEMMA_TEMPLATE

PAD_TO = 32
FORMS = (("<|turn>", GEMMA_TEMPLATE), ("<start_of_turn>", GEMMA3_TEMPLATE))
"""(token that opens a turn, chat template that uses it)."""


@dataclass(frozen=True)
class Example:
    """One row: ids [T], of which ids[offset:] are supervised (predicted from the ids before them)."""

    ids: np.ndarray
    offset: int
    row: ChatRow

    @property
    def supervised(self) -> int:
        """Number of supervised tokens; the first token of a row has no predecessor to be predicted from."""
        return len(self.ids) - max(self.offset, 1)


@dataclass(frozen=True)
class EncodedRows:
    """Rows that can be trained on, and the sources of rows that were cut or left out.

    prompts_unlike: rows whose template's generation prompt is no prefix of the row.
    """

    examples: tuple[Example, ...]
    cut: tuple[str, ...] = field(default=())
    left_out: tuple[str, ...] = field(default=())
    prompts_unlike: int = 0

    @property
    def tokens(self) -> int:
        """All tokens."""
        return sum(len(example.ids) for example in self.examples)

    @property
    def supervised(self) -> int:
        """Supervised tokens."""
        return sum(example.supervised for example in self.examples)

    def summary(self) -> dict[str, Any]:
        """Counts for the plan and the record."""
        return {
            "rows": len(self.examples),
            "tokens": self.tokens,
            "supervised_tokens": self.supervised,
            "most_supervised_tokens": max((example.supervised for example in self.examples), default=0),
            "rows_cut_at_limit": len(self.cut),
            "rows_left_out": len(self.left_out),
            "left_out_sources": list(self.left_out[:20]),
            "prompts_unlike": self.prompts_unlike,
        }


def encode_rows(rows: Sequence[ChatRow], tokenizer: Any, max_seq_length: int, mask_prompt: bool = True) -> EncodedRows:
    """Rows -> examples, with the ids and the offset of mlx_lm's ChatDataset.

    tokenizer: a transformers tokenizer with a chat template.
    A row over the limit is cut and counted. A row whose whole completion would be cut off is left out and named, since
    it would supervise nothing (mlx_lm computes NaN from it). Where a template's generation prompt is no prefix of the
    row (it may open a thinking channel there), the row is supervised from the first differing token on, and counted.
    """
    examples, cut, left_out, unlike = [], [], [], 0
    for row in rows:
        ids = tokenizer.apply_chat_template(list(row.messages), return_dict=False)
        offset = 0
        if mask_prompt:
            prompt = tokenizer.apply_chat_template(
                list(row.prompt_messages), add_generation_prompt=True, return_dict=False
            )
            offset = common_prefix_length(ids, prompt)
            unlike += offset < len(prompt)
        if len(ids) > max_seq_length:
            if offset >= max_seq_length:
                left_out.append(row.source)
                continue
            cut.append(row.source)
        examples.append(Example(np.array(ids[:max_seq_length], np.int32), offset, row))
    return EncodedRows(tuple(examples), tuple(cut), tuple(left_out), unlike)


def common_prefix_length(ids: Sequence[int], other: Sequence[int]) -> int:
    """Number of tokens that two sequences have in common at their start."""
    pairs = enumerate(zip(ids, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(ids), len(other)))


def pad_examples(examples: Sequence[Example], pad_to: int = PAD_TO) -> tuple[np.ndarray, np.ndarray]:
    """Examples -> ids [B, T] padded with 0, and spans [B, 2]: positions span[0] <= t < span[1] are supervised targets.

    T is one plus a multiple of `pad_to`, so that few shapes are compiled. Padding is never supervised.
    """
    longest = max(len(example.ids) for example in examples)
    width = 1 + pad_to * max(1, -(-(longest - 1) // pad_to))
    ids = np.zeros((len(examples), width), np.int32)
    spans = np.zeros((len(examples), 2), np.int32)
    for number, example in enumerate(examples):
        ids[number, : len(example.ids)] = example.ids
        spans[number] = max(example.offset, 1), len(example.ids)
    return ids, spans


def load_tokenizer(folder: Path) -> Any:
    """The transformers tokenizer of a model folder, from disk only.

    A base model has no chat template: one whose tokenizer has a Gemma's turn tokens gets that Gemma's template
    (`template_note`). Raises ModelError where the tokenizer is missing or damaged, or no template fits.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # else it says at every start that PyTorch is not there
    from huggingface_hub.errors import StrictDataclassError  # what transformers raises for a config it does not like
    from transformers import AutoTokenizer  # takes a second to import, and `--help` must not wait for it

    description = folder / "tokenizer.json"
    try:
        if description.is_file():  # the library behind raises bare `Exception` on a damaged one
            json.loads(description.read_text(encoding="utf-8"))
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{folder}: its tokenizer cannot be loaded: {cause}", fix="copy the model again") from None
    if tokenizer.chat_template is None:
        forms = [
            form for turn, form in FORMS if tokenizer.convert_tokens_to_ids(turn) not in (None, tokenizer.unk_token_id)
        ]
        if not forms:
            raise ModelError(
                f"{folder}: its tokenizer has no chat template",
                fix="put the template of its instruction-tuned sibling there as chat_template.jinja",
            )
        tokenizer.chat_template = forms[0]
    return tokenizer


def template_note(tokenizer: Any) -> str:
    """The source of the chat template, for the plan."""
    given = {GEMMA_TEMPLATE: "Gemma 4's form", GEMMA3_TEMPLATE: "Gemma 3's form"}
    return given.get(tokenizer.chat_template, "the model's own")

"""Encode chat rows as token ids with a supervised part, and pad batches of them. Needs no MLX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thunder.corpora.rows.chat_rows import ChatRow
from thunder.errors import CorpusError
from thunder.lora.prompts.prompt_format import PromptFormat

PAD_TO = 32


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

    control_token_rows: sources of rows whose texts name control tokens of the model, which are tokenized as text.
    """

    examples: tuple[Example, ...]
    cut: tuple[str, ...] = field(default=())
    left_out: tuple[str, ...] = field(default=())
    control_token_rows: tuple[str, ...] = field(default=())

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
            "prompts_unlike": 0,
            "control_token_rows": len(self.control_token_rows),
            "control_token_sources": list(self.control_token_rows[:20]),
        }


def encode_rows(
    rows: Sequence[ChatRow], prompts: PromptFormat, max_seq_length: int, mask_prompt: bool = True
) -> EncodedRows:
    """Rows -> examples, each the generation prompt, the answer, and the end of the turn.

    For a template that writes the same before an answer as in a generation prompt, ids and offset are those of
    mlx_lm's ChatDataset. A row over the limit is cut and counted. A row whose whole completion would be cut off is left
    out and named, since it would supervise nothing (mlx_lm computes NaN from it).

    Raises CorpusError that names the row whose conversation the chat template refuses.
    """
    examples, cut, left_out, named = [], [], [], []
    for row in rows:
        try:
            tokens = prompts.training_tokens(row.prompt_messages, row.reference, row.fields.get("tools"))
        except CorpusError as error:
            raise CorpusError(f"{row.source}: {error.message}", fix=error.fix) from None
        offset = tokens.offset if mask_prompt else 0
        if tokens.control_tokens:
            named.append(row.source)
        if len(tokens.ids) > max_seq_length:
            if offset >= max_seq_length:
                left_out.append(row.source)
                continue
            cut.append(row.source)
        examples.append(Example(np.array(tokens.ids[:max_seq_length], np.int32), offset, row))
    return EncodedRows(tuple(examples), tuple(cut), tuple(left_out), tuple(named))


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

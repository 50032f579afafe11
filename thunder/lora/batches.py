"""Chat rows as token ids with the supervised part marked, and padded batches of them. Needs no MLX."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thunder.corpora.rows import Row

PAD_TO = 32


@dataclass(frozen=True)
class Example:
    """One row: ids [T], of which ids[offset:] are supervised (predicted from what is before them)."""

    ids: np.ndarray
    offset: int
    row: Row

    @property
    def supervised(self) -> int:
        """Number of supervised tokens; the first token of a row has nothing to be predicted from."""
        return len(self.ids) - max(self.offset, 1)


@dataclass(frozen=True)
class Encoded:
    """Rows that can be trained on, and an account of the others."""

    examples: tuple[Example, ...]
    cut: tuple[str, ...] = field(default=())
    left_out: tuple[str, ...] = field(default=())

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
            "rows_cut_at_limit": len(self.cut),
            "rows_left_out": len(self.left_out),
            "left_out_sources": list(self.left_out[:20]),
        }


def encode(rows: Sequence[Row], tokenizer: Any, max_seq_length: int, mask_prompt: bool = True) -> Encoded:
    """Rows -> examples, with the ids and the offset of mlx_lm's ChatDataset.

    tokenizer: a transformers tokenizer with a chat template.
    A row over the limit is cut and counted; one whose completion would be cut away wholly is left out and named,
    since it would supervise nothing (mlx_lm makes NaN of it).
    """
    examples, cut, left_out = [], [], []
    for row in rows:
        ids = tokenizer.apply_chat_template(list(row.messages), return_dict=False)
        offset = 0
        if mask_prompt:
            prompt = tokenizer.apply_chat_template(
                list(row.prompt_messages), add_generation_prompt=True, return_dict=False
            )
            offset = len(prompt)
        if len(ids) > max_seq_length:
            if offset >= max_seq_length:
                left_out.append(row.source)
                continue
            cut.append(row.source)
        examples.append(Example(np.array(ids[:max_seq_length], np.int32), offset, row))
    return Encoded(tuple(examples), tuple(cut), tuple(left_out))


def pad(examples: Sequence[Example], pad_to: int = PAD_TO) -> tuple[np.ndarray, np.ndarray]:
    """Examples -> ids [B, T] padded with 0, and spans [B, 2]: positions span[0] <= t < span[1] are supervised targets.

    T is one plus a multiple of `pad_to`, so that few shapes are ever compiled. Padding is never supervised.
    """
    longest = max(len(example.ids) for example in examples)
    width = 1 + pad_to * max(1, -(-(longest - 1) // pad_to))
    ids = np.zeros((len(examples), width), np.int32)
    spans = np.zeros((len(examples), 2), np.int32)
    for number, example in enumerate(examples):
        ids[number, : len(example.ids)] = example.ids
        spans[number] = max(example.offset, 1), len(example.ids)
    return ids, spans


def load_tokenizer(folder: Any) -> Any:
    """The transformers tokenizer of a model folder, from disk only."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # else it says at every start that PyTorch is not there
    from transformers import AutoTokenizer  # takes a second to import, and `--help` must not wait for it

    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)

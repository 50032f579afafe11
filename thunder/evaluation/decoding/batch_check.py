"""Check that a model decodes two padded rows as it decodes each alone: mlx_lm's batches do not work for every type."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.generate import BatchGenerator

from thunder.evaluation.decoding import kv_cache
from thunder.lora.engine.full_model_engine import full_logits

LENGTHS = (3, 17)  # tokens: the shorter row is mostly padding, so that a lost mask shows
MOST_DIFFERENCE = 0.1
"""Largest distance between the logits of a batch and those of single rows, relative to their spread.

Measured on the models of tests/support/tiny_models.py: at most 2e-6 where batches work, 0.75 where mlx_lm's gemma2
takes the mask of one row for another's.
"""


def batch_fault(model: nn.Module) -> str:
    """What goes wrong where two padded rows are decoded together; empty where nothing does.

    Costs a few passes over 17 tokens.
    """
    try:
        tokens = full_logits(model, mx.zeros((1, 1), mx.int32)).shape[-1]  # only for its shape
        rows = [[1 + (7 * place + number) % (tokens - 1) for place in range(n)] for number, n in enumerate(LENGTHS)]
        _generate_together(model, rows)
        together = _last_logits(model, rows)
        alone = mx.concatenate([full_logits(model, mx.array([row]))[:, -1] for row in rows]).astype(mx.float32)
        difference = mx.linalg.norm(together - alone) / mx.linalg.norm(alone - alone.mean(axis=-1, keepdims=True))
        found = difference.item()
    except Exception as error:  # what a model's own code raises depends on its type
        return f"{type(error).__name__}: {error}"
    if not found <= MOST_DIFFERENCE:
        return f"the logits of two rows differ from those of each alone, by {found:.2f} of their spread"
    return ""


def usable_batch_size(model: nn.Module, batch_size: int) -> tuple[int, str]:
    """The batch size where batches work, else 1, and then a sentence that says so."""
    if batch_size == 1 or not (fault := batch_fault(model)):
        return batch_size, ""
    kind = getattr(model, "model_type", type(model).__name__)
    return 1, f"answers are decoded one row at a time: mlx_lm's {kind} cannot decode two padded rows ({fault})"


def _last_logits(model: nn.Module, rows: Sequence[list[int]]) -> mx.array:
    """[B, V] float32 logits after the last token of each row, from padded batch caches as decoding uses them."""
    if kv_cache.unsupported_cache(model):  # not forked by our decoding: mlx_lm's generator alone makes its batches
        return mx.concatenate([full_logits(model, mx.array([row]))[:, -1] for row in rows]).astype(mx.float32)
    caches = kv_cache.empty_caches(model, len(rows))
    before = [row[:-1] for row in rows]
    kv_cache.extend_caches(model, caches, before)
    caches = kv_cache.fork_caches(caches, range(len(rows)), [len(row) for row in before])
    logits = kv_cache.extend_caches(model, caches, [row[-1:] for row in rows])
    return logits[:, 0].astype(mx.float32)


def _generate_together(model: nn.Module, rows: list[list[int]]) -> None:
    """Decode two tokens of each row by mlx_lm's generator."""
    generator = BatchGenerator(model, stop_tokens=[], completion_batch_size=2, prefill_batch_size=2)
    try:
        generator.insert(rows, [2] * len(rows))
        for _ in range(2):
            mx.eval([each.logprobs for each in generator.next_generated()])
    finally:
        generator.close()

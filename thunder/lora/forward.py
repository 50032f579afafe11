"""A language model over whole rows, as it generates."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from thunder.lora.engine.choice import GEMMA3N


def logits(model: Any, ids: mx.array) -> mx.array:
    """[B, T] token ids -> [B, T, V].

    mlx_lm's gemma3n shares keys and values through its cache alone (ml-explore/mlx-lm#1674): without one, as
    mlx_lm.lora calls it, it is another model than the one that generates.
    """
    shares_by_cache = getattr(model, "model_type", None) in GEMMA3N
    return model(ids, cache=model.make_cache()) if shares_by_cache else model(ids)

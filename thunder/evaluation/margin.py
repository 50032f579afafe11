"""How much likelier than leaving a text alone a model finds its own answer."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from thunder.lora import forward


def log_probabilities(
    model: nn.Module, prompts: Sequence[list[int]], answers: Sequence[list[int]], batch_size: int
) -> list[float]:
    """Natural log of the probability of each whole answer after its prompt, the token that ends it included.

    Rows of like length go together, padded on the right, where a causal model does not look.
    """
    found = [0.0] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]) + len(answers[place]))
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        rows = [prompts[place] + answers[place] for place in places]
        width = max(map(len, rows))
        ids = mx.array([row + [0] * (width - len(row)) for row in rows])  # [B, T]
        logits = forward.logits(model, ids[:, :-1]).astype(mx.float32)  # [B, T - 1, V]
        taken = mx.take_along_axis(logits, ids[:, 1:, None], axis=-1)[..., 0]
        logprobs = taken - mx.logsumexp(logits, axis=-1)
        spans = [(len(prompts[place]) - 1, len(row) - 1) for place, row in zip(places, rows, strict=True)]
        at = mx.arange(width - 1)
        begins, ends = (mx.array([span[part] for span in spans])[:, None] for part in (0, 1))
        sums = mx.where((at >= begins) & (at < ends), logprobs, 0.0).sum(axis=-1).tolist()
        for place, total in zip(places, sums, strict=True):
            found[place] = total
    return found

"""Which engine trains a model, decided by its type alone and said in the plan. Needs no MLX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

GEMMA4, GEMMA3, GEMMA3N = ("gemma4", "gemma4_text"), ("gemma3", "gemma3_text"), ("gemma3n",)


@dataclass(frozen=True)
class Choice:
    """The engine's name, and in words what it leaves out."""

    name: Literal["gemma4", "gemma3", "gemma3n", "plain"]
    reason: str


def choose(config: dict[str, Any], num_layers: int) -> Choice:
    """The engine for a model's config.json and so many LoRA layers (-1: all)."""
    kind = config.get("model_type")
    text = config.get("text_config", config)
    layers, shared = int(text.get("num_hidden_layers", 35)), int(text.get("num_kv_shared_layers", 20))
    trained = layers if num_layers == -1 else num_layers
    once = f"; {layers - trained} frozen layers once for each row" if trained < layers else "; no layer is frozen"
    above = f"head and the last {shared} of {layers} layers" if shared else "head"
    if kind in GEMMA4:
        return Choice("gemma4", f"{above} only at supervised positions{once}")
    if kind in GEMMA3N:
        taken = "; they take keys and values of earlier ones, as in generation" if shared else ""
        return Choice("gemma3n", f"{above} only at supervised positions{taken}{once}")
    if kind in GEMMA3:
        return Choice("gemma3", f"head only at supervised positions{once}")
    return Choice("plain", f"every layer and the head at all positions: nothing faster is known for '{kind}'")

"""Choose and make the engine that trains a model, by the model's type alone; choosing needs no MLX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from thunder.lora.engine.frozen_prefix_engine import FrozenPrefixEngine
    from thunder.lora.engine.full_model_engine import FullModelEngine
    from thunder.lora.tokenized_rows import Example

GEMMA4, GEMMA3, GEMMA3N = ("gemma4", "gemma4_text"), ("gemma3", "gemma3_text"), ("gemma3n",)


@dataclass(frozen=True)
class EngineChoice:
    """The engine's name, and a sentence for the plan on the work that it skips."""

    name: Literal["gemma4", "gemma3", "gemma3n", "plain"]
    reason: str


def choose_engine(config: dict[str, Any], num_layers: int) -> EngineChoice:
    """The engine for a model's config.json and this number of LoRA layers (-1: all)."""
    model_type = config.get("model_type")
    text = config.get("text_config", config)
    layers, shared = int(text.get("num_hidden_layers", 35)), int(text.get("num_kv_shared_layers", 20))
    trained = layers if num_layers == -1 else num_layers
    frozen = f"; {layers - trained} frozen layers once for each row" if trained < layers else "; no layer is frozen"
    above = f"head and the last {shared} of {layers} layers" if shared else "head"
    if model_type in GEMMA4:
        return EngineChoice("gemma4", f"{above} only at supervised positions{frozen}")
    if model_type in GEMMA3N:
        sharing = "; they use keys and values of earlier layers, as in generation" if shared else ""
        return EngineChoice("gemma3n", f"{above} only at supervised positions{sharing}{frozen}")
    if model_type in GEMMA3:
        return EngineChoice("gemma3", f"head only at supervised positions{frozen}")
    return EngineChoice(
        "plain", f"every layer and the head at all positions: there is no faster engine for '{model_type}'"
    )


def make_engine(
    model: Any, trained: int, examples: Sequence[Example], recompute: bool = False
) -> FullModelEngine | FrozenPrefixEngine:
    """The engine of a loaded model, as `choose_engine` names it for the model's type.

    trained: how many of the last layers have LoRA. examples: all rows that batches will be made of.
    recompute: whether layers recompute their activations in the backward pass.
    """
    # imported here: these modules need MLX, and the launcher plans a run without it
    from thunder.lora.engine import fast_math
    from thunder.lora.engine.frozen_prefix_engine import FrozenPrefixEngine
    from thunder.lora.engine.full_model_engine import FullModelEngine
    from thunder.lora.engine.gemma3 import SplitGemma3
    from thunder.lora.engine.gemma3n import SplitGemma3n
    from thunder.lora.engine.gemma4 import SplitGemma4

    if model.model_type in (*GEMMA4, *GEMMA3):
        fast_math.patch_activations(model)
    if model.model_type in GEMMA4:
        return FrozenPrefixEngine(model, SplitGemma4(model, trained), examples)
    if model.model_type in GEMMA3:
        return FrozenPrefixEngine(model, SplitGemma3(model, trained, recompute), examples)
    if model.model_type in GEMMA3N:
        return FrozenPrefixEngine(model, SplitGemma3n(model, trained, recompute), examples)
    return FullModelEngine(model)

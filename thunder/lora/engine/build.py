"""The engine of a loaded model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.nn as nn

from thunder.lora.engine import fast_math
from thunder.lora.engine.choice import GEMMA3, GEMMA3N, GEMMA4
from thunder.lora.engine.frozen_prefix_engine import Staged
from thunder.lora.engine.full_model_engine import Plain
from thunder.lora.engine.gemma3 import Gemma3
from thunder.lora.engine.gemma3n import Gemma3n
from thunder.lora.engine.gemma4 import Gemma4
from thunder.lora.tokenized_rows import Example

Engine = Plain | Staged


def of_model(model: Any, trained: int, examples: Sequence[Example], recomputes: bool = False) -> Engine:
    """The engine that `choice.choose` names for the model's type.

    trained: how many of the last layers have LoRA. examples: all that batches will be made of.
    recomputes: whether layers recompute their activations in the backward pass.
    """
    if model.model_type in (*GEMMA4, *GEMMA3):
        fast_math.quicken(model)
    if model.model_type in GEMMA4:
        return Staged(model, Gemma4(model, trained), examples)
    if model.model_type in GEMMA3:
        return Staged(model, Gemma3(model, trained, recomputes), examples)
    if model.model_type in GEMMA3N:
        return Staged(model, Gemma3n(model, trained, recomputes), examples)
    return plain(model)


def plain(model: nn.Module) -> Plain:
    """The engine that any model can have."""
    return Plain(model)

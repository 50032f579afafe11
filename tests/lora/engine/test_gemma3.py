"""Gemma 3 split: the layer from which on only supervised positions run."""

from __future__ import annotations

import pytest
from split_models import LAYERS, fresh

from thunder.lora.engine.gemma3 import SplitGemma3


@pytest.mark.parametrize("recompute", [False, True])
def test_gemma_3_skips_the_prompt_in_its_last_layer_without_recompute(recompute):
    split = SplitGemma3(fresh("gemma3"), 2, recompute)
    assert split.kv_boundary == (LAYERS if recompute else LAYERS - 1)

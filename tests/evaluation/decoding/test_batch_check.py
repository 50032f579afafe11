"""Two padded rows decoded together: found where a type's batches are wrong, silent where they are right."""

from __future__ import annotations

import mlx.core as mx
import pytest
from tiny_models import make_model

from thunder.evaluation.decoding import batch_check
from thunder.lora import base_model


@pytest.mark.parametrize("layout", ["llama", "qwen3", "qwen3moe", "gemma3-text", "gemma3-wrapper", "gemma4-wrapper"])
def test_types_whose_batches_are_right(layout, tmp_path):
    model = base_model.load_base_model(make_model(layout, tmp_path / layout))
    assert batch_check.batch_fault(model) == ""
    assert batch_check.usable_batch_size(model, 8) == (8, "")


def test_gemma2_takes_the_mask_of_one_row_for_anothers(tmp_path):
    """With two rows and two heads of keys its masks fit by chance, and the logits are wrong without an error."""
    model = base_model.load_base_model(make_model("gemma2", tmp_path / "gemma2"))
    assert "the logits of two rows differ" in batch_check.batch_fault(model)
    size, note = batch_check.usable_batch_size(model, 8)
    assert size == 1 and note.startswith("answers are decoded one row at a time: mlx_lm's gemma2 cannot decode two")
    assert batch_check.usable_batch_size(model, 1) == (1, "")


def test_a_model_that_raises_and_one_without_finite_logits(tmp_path):
    model = base_model.load_base_model(make_model("llama", tmp_path / "llama"))
    weights = model.model.embed_tokens.weight
    model.model.embed_tokens.weight = weights * mx.array(float("nan"))
    assert "differ" in batch_check.batch_fault(model)
    model.model.embed_tokens.weight = weights[:, :8]
    assert "Error" in batch_check.batch_fault(model)

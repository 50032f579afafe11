"""Pretraining with other runtime overrides: recomputed activations and smaller pieces give the same gradient."""

from __future__ import annotations

import random

import numpy as np
import pytest
from conftest import WORDS
from mlx.utils import tree_flatten
from mlx_lm.models import gemma4_text

from thunder.lora import open_text, pretraining
from thunder.lora.lora_settings import PretrainSettings
from thunder.training.loop_settings import RuntimeOverrides
from thunder.training.step import make_gradient

pytestmark = pytest.mark.expensive


@pytest.fixture
def settings(tmp_path, monkeypatch):
    # mlx_lm's grad_checkpoint changes the class of the layers: put back afterwards
    monkeypatch.setattr(gemma4_text.DecoderLayer, "__call__", gemma4_text.DecoderLayer.__call__)
    draw = random.Random(1)
    lines = [" ".join(draw.choices(WORDS, k=7)) for _ in range(200)]
    (tmp_path / "a.tsv").write_text("nqo\n" + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return PretrainSettings(
        text_root=str(tmp_path), text=["a.tsv"], vocab_size=330, hidden_size=32, num_hidden_layers=8,
        intermediate_size=32, num_attention_heads=2, head_dim=16, global_head_dim=16, max_seq_length=48,
        batch_size=4, max_words=4,
    )  # fmt: skip


def gradients(settings, text, pieces):
    """Sum of the gradients over pieces of one batch."""
    task = pretraining.PretrainTask(settings, text)
    total = {}
    for rows in pieces:
        for name, array in tree_flatten(make_gradient(task)(task.batch(rows, 0))[1]):
            total[name] = total.get(name, 0) + np.array(array)
    return total


def test_recomputing_and_smaller_pieces_change_nothing(settings):
    text = open_text.read_open_text(settings)
    before = gemma4_text.DecoderLayer.__call__
    whole = gradients(settings, text, [[0, 1, 2, 3]])
    assert gemma4_text.DecoderLayer.__call__ is before
    other = RuntimeOverrides(micro_batch_size=2, grad_checkpoint=True).for_task(settings)
    assert other.batch_size == 2 and settings.digest() != other.digest(), "the digest is that of the original settings"
    pieces = gradients(other, text, [[0, 1], [2, 3]])
    assert gemma4_text.DecoderLayer.__call__ is not before, "it recomputes"
    scale = max(float(np.abs(array).max()) for array in whole.values())
    assert whole.keys() == pieces.keys() and scale > 0
    for name, array in whole.items():
        np.testing.assert_allclose(array, pieces[name], atol=1e-5 * scale, err_msg=name)

"""Entries of rows: the same bytes with any batch mates, and where the shared prefix ends."""

from __future__ import annotations

import numpy as np
import pytest
from engine_oracle import engine_loss_and_gradient, mlx_lm_loss_and_gradient, random_example, trainable
from split_models import fresh

from thunder.lora.engine.engine_choice import make_engine
from thunder.lora.engine.frozen_prefix import shared_prefix_ids


@pytest.mark.expensive
@pytest.mark.parametrize("kind", ["gemma4", "gemma3"])
@pytest.mark.parametrize("layers", [2, 5])
def test_a_row_is_the_same_bytes_with_any_batch_mates(kind, layers):
    draw = np.random.default_rng(3)
    examples = [random_example(draw, [5, 9, 2], int(p), int(a)) for p, a in draw.integers(1, 30, (30, 2))]
    engine = make_engine(trainable(fresh(kind), layers), layers, examples)
    in_batches = engine.prefix.compute_entries(examples)
    alone = [engine.prefix.compute_entries([each])[0] for each in examples]
    assert all(np.array_equal(a, b) for a, b in zip(in_batches, alone, strict=True))
    assert [len(entry) for entry in alone] == [engine.prefix.entry_nbytes(each) for each in examples]
    assert len({engine.prefix.entry_key(each) for each in examples}) == len(examples)


def test_a_row_without_the_shared_prefix_is_computed_whole():
    draw = np.random.default_rng(4)
    examples = [random_example(draw, [5, 9, 2, 7, 7], 4, 6) for _ in range(4)]
    odd = random_example(draw, [8], 9, 3)
    network = trainable(fresh("gemma4_text"), 2)
    engine = make_engine(network, 2, examples)
    engine.sizes = make_engine(network, 2, [*examples, odd]).sizes
    assert (engine.prefix.shared_length(examples[0]), engine.prefix.shared_length(odd)) == (5, 0)
    loss, _ = mlx_lm_loss_and_gradient(network, [examples[0], odd])
    assert engine_loss_and_gradient(engine, [examples[0], odd])[0] == pytest.approx(loss, rel=1e-5)


def test_the_shared_prefix_ends_where_a_row_is_supervised():
    draw = np.random.default_rng(5)
    rows = [random_example(draw, [3, 4, 5, 6], 0, 5), random_example(draw, [3, 4, 5, 6], 9, 5)]
    assert shared_prefix_ids(rows) == (3, 4, 5)
    assert shared_prefix_ids(rows[:1]) == ()

"""Frozen layers leave memory once every row is cached, and come back where a row needs them."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from cached_rows import OPTIONS, ROWS
from conftest import make_rows, write_rows

from thunder.corpora.rows import chat_rows as corpus_rows
from thunder.lora import base_model, cache_warmup, tokenized_rows
from thunder.lora.cache_warmup import warm_up_cache
from thunder.lora.engine.frozen_prefix_engine import FrozenPrefixEngine
from thunder.lora.lora_settings import LoraSettings
from thunder.lora.lora_task import LoraTask
from thunder.lora.prompts.load_prompts import load_prompt_format
from thunder.parallel.world import World

pytestmark = pytest.mark.expensive


@pytest.fixture(scope="module")
def examples(tiny_model, tmp_path_factory):
    rows = corpus_rows.read_rows(
        write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", make_rows(ROWS + 4, seed=9))
    ).rows
    return tokenized_rows.encode_rows(rows, load_prompt_format(tiny_model), 256).examples


def test_frozen_layers_leave_memory_and_come_back(tiny_model, examples, tmp_path):
    network = base_model.load_base_model(tiny_model)
    task = LoraTask(network, LoraSettings(**OPTIONS), examples)
    ids = mx.array(examples[0].ids)[None]
    before = network(ids)
    mx.eval(before)
    cache = warm_up_cache(task, task.settings, World(), base_digest="base", ranks=1, root=tmp_path, log=print)
    engine = task.engine
    assert isinstance(engine, FrozenPrefixEngine) and engine.frozen_weights.nbytes == 0
    assert network.model.layers[0].mlp.gate_proj.weight.size == 0
    assert network.model.embed_tokens_per_layer.weight.size == 0
    with pytest.raises(ValueError):
        mx.eval(network(ids))
    engine.restore_frozen(tiny_model)
    assert engine.frozen_weights.nbytes > 0
    np.testing.assert_array_equal(np.array(network(ids)), np.array(before))
    cache.close()


def test_a_row_of_another_rank_brings_the_frozen_layers_back(tiny_model, examples, tmp_path):
    """Hosts of unequal speed hand rows over in the middle of a run."""
    settings = LoraSettings(**OPTIONS | {"iters": 40, "probe_rows": 0})

    def task():
        return LoraTask(base_model.load_base_model(tiny_model), settings, examples[:ROWS], examples[ROWS:])

    one, whole = task(), task()
    others = cache_warmup.rows_for_rank(one, settings, World(1, 2), 2)
    half = LoraTask(
        base_model.load_base_model(tiny_model),
        settings.model_copy(update={"iters": 1}),
        examples[:ROWS],
        examples[ROWS:],
    )
    cache = warm_up_cache(
        half, half.settings, World(), base_digest="base", ranks=1, root=tmp_path, base=tiny_model, log=print
    )
    assert half.engine.frozen_weights.dropped
    mine, theirs = half.engine.batch(others[-4:]), whole.engine.batch(others[-4:])
    assert not half.engine.frozen_weights.dropped
    assert all(mx.array_equal(a, b).item() for a, b in zip(mine.arrays, theirs.arrays, strict=True))
    assert all(cache.has_entry(half.engine.prefix.entry_key(example)) for example in others[-4:]), (
        "kept for the next epoch"
    )
    cache.close()

"""LoRA's task: shares of validation and probe rows over ranks, batches, and an adapter to start from."""

from __future__ import annotations

import json

import mlx.core as mx
import pytest
from conftest import make_rows, write_rows
from mlx.utils import tree_flatten
from small_adapters import train_adapter

from thunder.corpora.rows import chat_rows as corpus_rows
from thunder.errors import ModelError
from thunder.lora import base_model, tokenized_rows
from thunder.lora.lora_settings import LoraSettings
from thunder.lora.lora_task import LoraTask
from thunder.lora.prompts.load_prompts import load_prompt_format

TRAIN, VALID = 14, 7


@pytest.fixture
def make_task(tiny_model, tmp_path):
    """Makes a task of 14 training and 7 validation rows with these settings."""
    rows = corpus_rows.read_rows(write_rows(tmp_path / "task.jsonl", make_rows(TRAIN + VALID, seed=4))).rows
    examples = tokenized_rows.encode_rows(rows, load_prompt_format(tiny_model), 256).examples

    def make(valid=VALID, **changes):
        settings = LoraSettings(**{"num_layers": 2, "lora_rank": 4, "batch_size": 2} | changes)
        model = base_model.load_base_model(tiny_model)
        return LoraTask(model, settings, examples[:TRAIN], examples[TRAIN : TRAIN + valid], {"base": "b"})

    return make


def ids_of(examples):
    return sorted(example.ids.tolist() for example in examples)


def test_ranks_share_the_validation_rows_and_each_batch_has_rows_of_like_length(make_task):
    task = make_task()
    shares = [task.valid_examples_of(rank, 3) for rank in range(3)]
    assert ids_of([each for share in shares for each in share]) == ids_of(task.valid_examples)
    assert sorted(map(len, shares)) == [2, 2, 3]
    for share in shares:
        lengths = [task.engine.row_length(example) for example in share]
        assert lengths == sorted(lengths)
    batches = [batch for rank in range(3) for batch in task.validation(rank, 3)]
    assert {group for group, _ in batches} == {"valid"} == set(task.groups) and len(batches) == 1 + 1 + 2
    counted = [len([*task.validation(rank, 3), *task.probe(rank, 3)]) for rank in range(3)]
    assert [task.validation_batches(rank, 3) for rank in range(3)] == counted
    assert sum(batch.tokens for _, batch in batches) == sum(example.supervised for example in task.valid_examples)
    assert task.validation_metrics({"valid": (12.0, 8.0)}) == {"valid_loss": 1.5}
    assert make_task(valid=0).groups == ()


@pytest.mark.parametrize(("rows", "expected"), [(0, 0), (5, 5), (50, TRAIN)])
def test_the_probe_is_so_many_training_rows_the_same_at_every_validation(make_task, rows, expected):
    task = make_task(probe_rows=rows)
    shares = [task.probe_examples_of(rank, 2) for rank in (0, 1)]
    chosen = ids_of([each for share in shares for each in share])
    assert len(chosen) == expected and chosen == ids_of(task.probe_examples_of(0, 1))
    assert all(ids in ids_of(task.train_examples) for ids in chosen)
    tokens = sum(batch.tokens for rank in (0, 1) for batch in task.probe(rank, 2))
    assert tokens == sum(example.supervised for share in shares for example in share)


def test_a_batch_has_the_tokens_of_its_rows_in_any_epoch(make_task):
    task = make_task()
    first, again = task.batch([3, 8], 0), task.batch([3, 8], 7)
    assert first.tokens == sum(task.train_examples[row].supervised for row in (3, 8))
    assert all(mx.array_equal(one, two).item() for one, two in zip(first.arrays, again.arrays, strict=True))
    assert task.rows == TRAIN == len(task.lengths)
    assert task.lengths == [task.engine.row_length(example) for example in task.train_examples]


def test_a_task_starts_from_a_saved_adapter_and_saves_its_metadata(make_task, tiny_model, tmp_path):
    folder, trained, _ = train_adapter(tiny_model, tmp_path)
    task = make_task(resume_adapter_file=str(folder / "adapters.safetensors"), lora_scale=10.0)
    expected = dict(tree_flatten(trained.model.trainable_parameters()))
    found = dict(tree_flatten(task.model.trainable_parameters()))
    assert found.keys() == expected.keys()
    assert all(mx.array_equal(found[name], expected[name]).item() for name in found)
    task.save(tmp_path / "again")
    again, before = (mx.load(str(path / "adapters.safetensors")) for path in (tmp_path / "again", folder))
    assert again.keys() == before.keys() and all(mx.array_equal(again[name], before[name]).item() for name in again)
    assert json.loads((tmp_path / "again" / "adapter_config.json").read_text())["thunder"]["base"] == "b"
    with pytest.raises(ModelError, match="not an adapter folder"):
        make_task(resume_adapter_file=str(tmp_path / "nowhere"))

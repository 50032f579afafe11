"""Rows of training, validation and test: held out by reference, leaks told, too few or too long refused."""

from __future__ import annotations

import pytest
from conftest import make_rows, write_rows

from thunder.errors import CorpusError
from thunder.lora import datasets
from thunder.lora.lora_settings import LoraSettings
from thunder.lora.prompts.load_prompts import load_prompt_format


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return load_prompt_format(tiny_model)


def settings_for(folder, **changes):
    return LoraSettings(**({"train_data": str(folder / "train.jsonl")} | changes))


def test_more_ranks_than_rows(tokenizer, tmp_path):
    write_rows(tmp_path / "train.jsonl", make_rows(3))
    with pytest.raises(CorpusError, match="3 training rows for 4 ranks"):
        datasets.prepare_datasets(settings_for(tmp_path, holdout=0.0), tokenizer, 4)


def test_all_rows_too_long(tokenizer, tmp_path):
    write_rows(tmp_path / "train.jsonl", make_rows(3))
    with pytest.raises(CorpusError, match="none of 3 training rows has its completion within 8 tokens"):
        datasets.prepare_datasets(settings_for(tmp_path, holdout=0.0, max_seq_length=8), tokenizer, 1)


def test_parts_without_a_file_are_held_out_by_reference(tokenizer, tmp_path):
    write_rows(tmp_path / "train.jsonl", make_rows(400))
    rows = datasets.read_datasets(settings_for(tmp_path, holdout=0.1))
    parts = {
        name: {row.reference for row in part} for name, part in (("t", rows.train), ("v", rows.valid), ("e", rows.test))
    }
    assert all(parts.values())
    assert not parts["t"] & (parts["v"] | parts["e"]) and not parts["v"] & parts["e"]
    assert len(rows.train) + len(rows.valid) + len(rows.test) == 400
    assert len(datasets.read_datasets(settings_for(tmp_path, holdout=0.1, test_rows=5)).test) == 5


def test_a_leak_between_given_files_is_said(tokenizer, tmp_path):
    write_rows(tmp_path / "train.jsonl", make_rows(10))
    write_rows(tmp_path / "valid.jsonl", make_rows(10)[:2])
    rows = datasets.read_datasets(LoraSettings(data=str(tmp_path)))
    assert any("leak" in note for note in rows.notes)


def test_a_folder_without_training_rows(tmp_path):
    with pytest.raises(CorpusError, match="no train.jsonl"):
        datasets.read_datasets(LoraSettings(data=str(tmp_path)))

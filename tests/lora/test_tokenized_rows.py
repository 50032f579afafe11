"""Rows as tokens: the ids and the mask of mlx_lm's own dataset, the length limit, the padding."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_rows, write_rows
from mlx_lm.tuner.datasets import ChatDataset

from thunder.corpora.rows import chat_rows as corpus_rows
from thunder.lora import tokenized_rows
from thunder.lora.prompts import load_prompts


@pytest.fixture(scope="module")
def prompts(tiny_model):
    return load_prompts.load_prompt_format(tiny_model)


@pytest.mark.parametrize("mask_prompt", [True, False])
def test_ids_and_offsets_equal_mlx_lm(prompts, tmp_path, mask_prompt):
    raw = make_rows(20)
    raw[3]["messages"] = [{"role": "system", "content": "x"}, *raw[3]["messages"], *make_rows(1, 5)[0]["messages"]]
    rows = corpus_rows.read_rows(write_rows(tmp_path / "rows.jsonl", raw)).rows
    theirs = ChatDataset(raw, prompts.tokenizer, mask_prompt=mask_prompt)
    for example, row in zip(tokenized_rows.encode_rows(rows, prompts, 512, mask_prompt).examples, raw, strict=True):
        ids, offset = theirs.process(row)
        assert (example.ids.tolist(), example.offset) == (ids, offset)


def test_a_row_whose_completion_is_cut_away_is_left_out_and_named(prompts, tmp_path):
    rows = corpus_rows.read_rows(write_rows(tmp_path / "rows.jsonl", make_rows(40))).rows
    whole = tokenized_rows.encode_rows(rows, prompts, 512).examples
    limit = sorted(example.offset for example in whole)[30]
    encoded = tokenized_rows.encode_rows(rows, prompts, limit)
    lost = [
        row.source
        for row, example in zip(rows, whole, strict=True)
        if example.offset >= limit and len(example.ids) > limit
    ]
    cut = [row.source for row, e in zip(rows, whole, strict=True) if e.offset < limit < len(e.ids)]
    assert lost and cut
    assert (list(encoded.left_out), list(encoded.cut)) == (lost, cut)
    assert len(encoded.examples) + len(lost) == len(rows)
    assert all(example.supervised > 0 and len(example.ids) <= limit for example in encoded.examples)


def test_padding_is_never_supervised(prompts, tmp_path):
    rows = corpus_rows.read_rows(write_rows(tmp_path / "rows.jsonl", make_rows(7))).rows
    examples = tokenized_rows.encode_rows(rows, prompts, 512).examples
    ids, spans = tokenized_rows.pad_examples(examples)
    assert ids.shape[1] % tokenized_rows.PAD_TO == 1
    for number, example in enumerate(examples):
        start, stop = spans[number]
        np.testing.assert_array_equal(ids[number, start:stop], example.ids[example.offset :])
        assert not ids[number, stop:].any()
        assert stop - start == example.supervised

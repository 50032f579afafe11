"""Rows as tokens: the ids and the mask of mlx_lm's own dataset, the length limit, the padding."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_rows, write_rows
from mlx_lm.tuner.datasets import ChatDataset

from thunder.corpora.rows import chat_rows as corpus_rows
from thunder.lora import tokenized_rows


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return tokenized_rows.load_tokenizer(tiny_model)


@pytest.mark.parametrize("mask_prompt", [True, False])
def test_ids_and_offsets_equal_mlx_lm(tokenizer, tmp_path, mask_prompt):
    raw = make_rows(20)
    raw[3]["messages"] = [{"role": "system", "content": "x"}, *raw[3]["messages"], *make_rows(1, 5)[0]["messages"]]
    rows = corpus_rows.read_rows(write_rows(tmp_path / "rows.jsonl", raw)).rows
    theirs = ChatDataset(raw, tokenizer, mask_prompt=mask_prompt)
    for example, row in zip(tokenized_rows.encode_rows(rows, tokenizer, 512, mask_prompt).examples, raw, strict=True):
        ids, offset = theirs.process(row)
        assert (example.ids.tolist(), example.offset) == (ids, offset)


def test_a_row_whose_completion_is_cut_away_is_left_out_and_named(tokenizer, tmp_path):
    rows = corpus_rows.read_rows(write_rows(tmp_path / "rows.jsonl", make_rows(40))).rows
    whole = tokenized_rows.encode_rows(rows, tokenizer, 512).examples
    limit = sorted(example.offset for example in whole)[30]
    encoded = tokenized_rows.encode_rows(rows, tokenizer, limit)
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


def test_padding_is_never_supervised(tokenizer, tmp_path):
    rows = corpus_rows.read_rows(write_rows(tmp_path / "rows.jsonl", make_rows(7))).rows
    examples = tokenized_rows.encode_rows(rows, tokenizer, 512).examples
    ids, spans = tokenized_rows.pad_examples(examples)
    assert ids.shape[1] % tokenized_rows.PAD_TO == 1
    for number, example in enumerate(examples):
        start, stop = spans[number]
        np.testing.assert_array_equal(ids[number, start:stop], example.ids[example.offset :])
        assert not ids[number, stop:].any()
        assert stop - start == example.supervised


THINKING = "{%- if add_generation_prompt -%}{{- '<|turn>model\\n<|channel>thought\\n' -}}{%- endif -%}"


def test_a_generation_prompt_that_is_no_prefix_supervises_the_whole_answer(tokenizer, tmp_path):
    """Larger Gemmas open a thinking channel in the generation prompt, which the row itself does not have."""
    import copy

    from thunder.text.chat import GEMMA_TEMPLATE

    rows = corpus_rows.read_rows(write_rows(tmp_path / "rows.jsonl", make_rows(5))).rows
    plain = tokenized_rows.encode_rows(rows, tokenizer, 512)
    other = copy.deepcopy(tokenizer)
    other.chat_template = GEMMA_TEMPLATE[: GEMMA_TEMPLATE.index("{%- if add_generation_prompt")] + THINKING
    encoded = tokenized_rows.encode_rows(rows, other, 512)
    assert encoded.prompts_unlike == 5 and plain.prompts_unlike == 0
    for mine, theirs in zip(encoded.examples, plain.examples, strict=True):
        assert mine.ids.tolist() == theirs.ids.tolist() and mine.offset == theirs.offset


@pytest.fixture
def model_copy(tiny_model, tmp_path):
    import shutil

    return shutil.copytree(tiny_model, tmp_path / "model")


def test_a_base_model_without_a_template_gets_gemmas_form(model_copy, tokenizer):
    (model_copy / "chat_template.jinja").unlink()
    bare = tokenized_rows.load_tokenizer(model_copy)
    messages = make_rows(1)[0]["messages"]
    assert bare.apply_chat_template(messages, return_dict=False) == tokenizer.apply_chat_template(
        messages, return_dict=False
    )
    assert tokenized_rows.template_note(bare) == "Gemma 4's form"


def test_one_that_knows_gemma_3s_turns_gets_gemma_3s_form(model_copy):
    (model_copy / "chat_template.jinja").unlink()
    path = model_copy / "tokenizer.json"
    path.write_text(path.read_text().replace("<|turn>", "<start_of_turn>").replace("<turn|>", "<end_of_turn>"))
    bare = tokenized_rows.load_tokenizer(model_copy)
    assert tokenized_rows.template_note(bare) == "Gemma 3's form"
    said = bare.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False, add_generation_prompt=True)
    assert said.endswith("<start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\n")


def test_a_config_that_transformers_will_not_have(model_copy):
    """It looks at the whole config.json for a tokenizer, and raises a kind of its own."""
    import json

    from conftest import TINY_GEMMA3N

    from thunder.errors import ModelError

    text = TINY_GEMMA3N | {"activation_sparsity_pattern": [0.95, 0, 0, 0, 0, 0]}
    (model_copy / "config.json").write_text(json.dumps({"model_type": "gemma3n", "text_config": text}))
    with pytest.raises(ModelError, match="activation_sparsity_pattern"):
        tokenized_rows.load_tokenizer(model_copy)


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign"])
def test_a_tokenizer_that_cannot_be_used(model_copy, damage):
    from thunder.errors import ModelError

    path = model_copy / "tokenizer.json"
    content = path.read_text()
    if damage == "missing":
        for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"):
            (model_copy / name).unlink()
    elif damage == "truncated":
        path.write_text(content[: len(content) // 2])
    else:
        (model_copy / "chat_template.jinja").unlink()
        path.write_text(content.replace("<|turn>", "<|other>"))
    with pytest.raises(ModelError, match="tokenizer"):
        tokenized_rows.load_tokenizer(model_copy)

"""Base models: damaged and absent files are named, and every file that can change an answer is in the digest."""

from __future__ import annotations

import json
import shutil

import pytest

from thunder.errors import ModelError
from thunder.lora import base_model


@pytest.fixture
def copy(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_truncated_weights_are_named_before_loading(copy, kept):
    path = copy / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:kept])
    with pytest.raises(ModelError, match="model.safetensors"):
        base_model.load_base_model(copy)


def test_weights_with_something_behind_them(copy):
    with (copy / "model.safetensors").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(ModelError, match="truncated or changed"):
        base_model.load_base_model(copy)


def test_a_shard_that_the_index_names_is_missing(copy):
    index = {"weight_map": {"a": "model-00002-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="model-00002-of-00002.safetensors: named by the index, missing"):
        base_model.load_base_model(copy)


def test_weights_of_another_model(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))
    with pytest.raises(ModelError, match="cannot load it"):
        base_model.load_base_model(copy)


@pytest.mark.parametrize(("content", "said"), [("{", "config.json"), (None, "no config.json")])
def test_a_damaged_or_absent_config(copy, content, said):
    (copy / "config.json").unlink()
    if content:
        (copy / "config.json").write_text(content)
    with pytest.raises(ModelError, match=said):
        base_model.read_model_config(base_model.find_base_model(str(copy)))


def test_an_absent_folder_is_not_taken_for_a_repository():
    with pytest.raises(ModelError, match="no such folder"):
        base_model.find_base_model("./nowhere/at-all")


def test_an_absent_repository_says_how_to_copy_it(monkeypatch, tmp_path):
    """Never the tiny model instead: the error names the repository and the command."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError) as caught:
        base_model.find_base_model("mlx-community/gemma-4-e2b-4bit")
    assert "mlx-community/gemma-4-e2b-4bit" in caught.value.message
    assert "hf download mlx-community/gemma-4-e2b-4bit" in caught.value.fix


def test_the_digest_tells_any_change_of_weights_config_or_tokenizer(copy, tmp_path):
    cache = tmp_path / "digests.json"
    before = base_model.base_digest(copy, cache)
    assert base_model.base_digest(copy, cache) == base_model.base_digest(copy) == before
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        if name != "model.safetensors" or base_model.safetensors_length(copy / name):
            assert base_model.base_digest(copy, cache) != before, name
        (copy / name).write_bytes(content)
    assert base_model.base_digest(copy, cache) == before


@pytest.mark.parametrize(
    "name",
    [
        "generation_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.json",
        "chat_template.jinja",
    ],
)
def test_the_digest_tells_any_change_of_the_small_files(copy, name):
    digests = []
    for content in (None, "{}", '{"a": 1}'):
        (copy / name).unlink(missing_ok=True)
        if content:
            (copy / name).write_text(content)
        digests.append(base_model.base_digest(copy))
    assert len(set(digests)) == 3


@pytest.mark.parametrize("content", ["{", "[]", "\udcff"])
def test_a_digest_cache_that_is_damaged_is_done_without(copy, tmp_path, content):
    cache = tmp_path / "digests.json"
    cache.write_text(content, errors="surrogateescape")
    assert base_model.base_digest(copy, cache) == base_model.base_digest(copy)
    assert len(json.loads(cache.read_text())) > 3


def test_a_digest_cache_that_cannot_be_written_is_done_without(copy, tmp_path):
    in_no_folder = base_model.digest_cache_path({"XDG_CACHE_HOME": "/dev/null"})
    for cache in (in_no_folder, tmp_path):
        assert base_model.base_digest(copy, cache) == base_model.base_digest(copy)


def test_the_generation_config_has_the_last_word_on_where_an_answer_ends(copy):
    """As in mlx_lm, whose own reading of the two files is the oracle."""
    from mlx_lm.utils import load_config

    from thunder.lora.prompts.load_prompts import load_prompt_format

    path = copy / "generation_config.json"
    for ends, stops in (([1, 7], {1, 6, 7}), (5, {5, 6}), (None, {1, 6}), ([], {1, 6})):
        path.write_text(json.dumps({"eos_token_id": ends, "temperature": 1.0}))
        assert base_model.read_model_config(copy) == load_config(copy)
        assert load_prompt_format(copy).stops == stops
    path.write_text("{}")
    assert base_model.read_model_config(copy) == load_config(copy)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", "[]", "config.json: not a JSON object"),
        ("config.json", "[" * 100_000, "config.json: not JSON"),
        ("config.json", '{"text_config": 3}', "config.json: its 'text_config' is not an object"),
        ("generation_config.json", "3", "generation_config.json: not a JSON object"),
        ("generation_config.json", "{", "generation_config.json: not JSON"),
        ("model.safetensors.index.json", "{", "model.safetensors.index.json: not JSON"),
        ("model.safetensors.index.json", "[]", "model.safetensors.index.json: not a JSON object"),
        ("model.safetensors.index.json", '{"weight_map": []}', "index.json: its 'weight_map' is not an object"),
        ("model.safetensors", "\x02\0\0\0\0\0\0\0[]", "model.safetensors: its header cannot be read"),
    ],
)
def test_a_damaged_file_is_named_with_a_fix(copy, name, content, said):
    (copy / name).write_text(content)
    with pytest.raises(ModelError) as caught:
        base_model.load_base_model(copy)
    assert said in caught.value.message
    assert caught.value.exit_code == 2 and "again" in caught.value.fix


@pytest.mark.parametrize("name", ["my model/x y", "a/b/../c", "-a/b", "a--b/c", "a/" + "b" * 200])
def test_a_name_that_no_repository_can_have(name):
    with pytest.raises(ModelError) as caught:
        base_model.find_base_model(name)
    assert caught.value.message.startswith(f"{name}: ") and "give an existing folder" in caught.value.fix

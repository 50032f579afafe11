"""Base models and adapters: what is damaged or absent is named, and mlx_lm reads what we write."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import mlx.core as mx
import numpy as np
import pytest
from conftest import make_rows, write_rows
from mlx.utils import tree_flatten

from thunder.corpora.rows import chat_rows as corpus_rows
from thunder.errors import ModelError
from thunder.lora import adapter_files, adapters, base_model, tokenized_rows
from thunder.lora.engine import fast_math
from thunder.lora.lora_settings import LoraSettings
from thunder.lora.lora_task import LoraTask


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

    from thunder.evaluation.adapter_comparison import stop_tokens

    path = copy / "generation_config.json"
    for ends, stops in (([1, 7], {1, 6, 7}), (5, {5, 6}), (None, {1, 6}), ([], {1, 6})):
        path.write_text(json.dumps({"eos_token_id": ends, "temperature": 1.0}))
        assert base_model.read_model_config(copy) == load_config(copy)
        assert stop_tokens(tokenized_rows.load_tokenizer(copy), base_model.read_model_config(copy)) == stops
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


@pytest.fixture
def trained(tiny_model, tmp_path):
    """An adapter folder with weights that matter, the task it came from, and the whole model that it is on."""
    rows = corpus_rows.read_rows(write_rows(tmp_path / "rows.jsonl", make_rows(4))).rows
    settings = LoraSettings(num_layers=2, lora_rank=4, lora_scale=10.0)
    whole = base_model.load_base_model(tiny_model)
    task = LoraTask(
        whole, settings, tokenized_rows.encode_rows(rows, tokenized_rows.load_tokenizer(tiny_model), 128).examples
    )
    mx.random.seed(2)
    for _, module in task.model.named_modules():
        if hasattr(module, "lora_b"):
            module.lora_b = mx.random.normal(module.lora_b.shape) * 0.3
    task.save(tmp_path / "adapters")
    return tmp_path / "adapters", task, whole


def logits(network):
    network.eval()
    return np.array(network(mx.array([[2, 5, 40, 41, 42, 43]])))


def test_mlx_lm_loads_what_we_write(trained, tiny_model):
    import mlx_lm

    folder, task, whole = trained
    theirs, _ = mlx_lm.load(str(tiny_model), adapter_path=str(folder))
    # the engine computes exp, tanh and GELU in another way on Linux, to the last digits
    np.testing.assert_allclose(logits(theirs), logits(whole), atol=1e-4)
    again = base_model.load_base_model(tiny_model)
    base = logits(again)
    adapters.add_lora(again, task.settings)
    adapters.load_adapter_weights(again, task.settings, folder)
    np.testing.assert_array_equal(logits(again), logits(theirs))
    assert np.abs(base - logits(again)).max() > 1e-3
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["lora_parameters"] == {"rank": 4, "scale": 10.0, "dropout": 0.0}
    assert {name.rsplit(".", 1)[-1] for name in mx.load(str(folder / "adapters.safetensors"))} == {"lora_a", "lora_b"}


def test_switched_off_it_is_the_base_to_the_bit(trained, tiny_model):
    _, task, whole = trained
    with_adapter = logits(whole)
    kept = adapters.disable_adapter(whole)
    base = base_model.load_base_model(tiny_model)
    fast_math.patch_activations(base)
    np.testing.assert_array_equal(logits(whole), logits(base))
    adapters.enable_adapter(whole, kept)
    np.testing.assert_array_equal(logits(whole), with_adapter)


@pytest.mark.expensive
def test_mlx_lm_generate_and_fuse_work_on_the_adapter(trained, tiny_model, tmp_path):
    folder, task, whole = trained
    base = [sys.executable, "-m", "mlx_lm"]
    common = ["--model", str(tiny_model), "--adapter-path", str(folder)]
    said = subprocess.run(
        [*base, "generate", *common, "--prompt", "ߊ߬ ߞߊ", "--max-tokens", "4"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert said.returncode == 0, said.stderr
    assert "Generation: " in said.stdout
    fused = subprocess.run(
        [*base, "fuse", *common, "--save-path", str(tmp_path / "fused")], capture_output=True, text=True, timeout=60
    )
    assert fused.returncode == 0, fused.stderr
    np.testing.assert_allclose(logits(base_model.load_base_model(tmp_path / "fused")), logits(whole), atol=2e-4)


@pytest.mark.parametrize("missing", ["adapters.safetensors", "adapter_config.json"])
def test_a_folder_that_is_not_an_adapter(trained, missing, tiny_model):
    folder, *_ = trained
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=f"not an adapter folder: it has no {missing}"):
        adapter_files.find_adapter(str(folder))


def test_an_adapter_of_another_shape(trained, tiny_model):
    folder, task, whole = trained
    network = base_model.load_base_model(tiny_model)
    adapters.add_lora(network, task.settings.model_copy(update={"lora_rank": 3}))
    with pytest.raises(ModelError, match="not an adapter of this model and shape: .* there, .* here"):
        adapters.load_adapter_weights(network, task.settings, folder)


@pytest.mark.parametrize("content", [b"", b"{}", b"x" * 100])
def test_a_damaged_adapter(trained, tiny_model, content):
    folder, task, whole = trained
    network = base_model.load_base_model(tiny_model)
    adapters.add_lora(network, task.settings)
    (folder / "adapters.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="adapters.safetensors"):
        adapters.load_adapter_weights(network, task.settings, folder)
    (folder / "adapter_config.json").write_bytes(content)
    with pytest.raises(ModelError, match="adapter_config.json"):
        adapter_files.read_adapter_config(folder)


def test_more_layers_than_the_model_has(tiny_model):
    with pytest.raises(ModelError, match="--num-layers 7: the model has 6"):
        adapters.add_lora(base_model.load_base_model(tiny_model), LoraSettings(num_layers=7))


def test_keys_that_no_layer_has(tiny_model):
    with pytest.raises(ModelError, match="no layer has them"):
        adapters.add_lora(base_model.load_base_model(tiny_model), LoraSettings(lora_keys=["self_attn.nothing"]))


def test_all_layers_and_chosen_keys(tiny_model):
    network = base_model.load_base_model(tiny_model)
    assert adapters.add_lora(network, LoraSettings(num_layers=-1, lora_keys=["self_attn.q_proj"])) == 6
    names = {name for name, _ in tree_flatten(network.trainable_parameters())}
    assert len(names) == 12 and all("self_attn.q_proj.lora_" in name for name in names)

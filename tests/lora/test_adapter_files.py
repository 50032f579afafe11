"""Adapter folders as files: found, read, copied, told apart by base and by digest."""

from __future__ import annotations

import json

import pytest
from small_adapters import train_adapter

from thunder.errors import ModelError
from thunder.lora import adapter_files


@pytest.fixture
def trained(tiny_model, tmp_path):
    return train_adapter(tiny_model, tmp_path)


@pytest.mark.parametrize("missing", ["adapters.safetensors", "adapter_config.json"])
def test_a_folder_that_is_not_an_adapter(trained, missing, tiny_model):
    folder, *_ = trained
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=f"not an adapter folder: it has no {missing}"):
        adapter_files.find_adapter(str(folder))


def test_an_adapter_is_found_by_its_folder_and_by_its_weights_file(trained):
    folder, task, _ = trained
    assert adapter_files.find_adapter(str(folder)) == folder
    assert adapter_files.find_adapter(str(folder / adapter_files.WEIGHTS)) == folder
    config = adapter_files.read_adapter_config(folder)
    assert config["num_layers"] == 2
    parameters = {name: value for name, value in config["lora_parameters"].items() if name != "keys"}
    assert parameters == adapter_files.lora_parameters(task.settings) == {"rank": 4, "scale": 10.0, "dropout": 0.0}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"lora_parameters": {}}', "it has no num_layers"),
        ('{"num_layers": 2, "lora_parameters": []}', "it has no lora_parameters"),
        ("[]", "it has no num_layers"),
    ],
)
def test_a_config_that_lacks_something_is_named(trained, content, reason):
    folder, *_ = trained
    (folder / adapter_files.CONFIG).write_text(content)
    with pytest.raises(ModelError, match=f"adapter_config.json: {reason}"):
        adapter_files.read_adapter_config(folder)


def test_an_adapter_of_another_base_is_refused_and_one_that_names_none_passes(trained, tmp_path):
    folder, *_ = trained
    adapter_files.check_adapter_base(folder, "a" * 64, tmp_path)
    config = json.loads((folder / adapter_files.CONFIG).read_text())
    (folder / adapter_files.CONFIG).write_text(json.dumps(config | {"thunder": {"base_sha256": "b" * 64}}))
    adapter_files.check_adapter_base(folder, "b" * 64, tmp_path)
    with pytest.raises(ModelError, match=f"sha256 {'b' * 12}.*, not on .*{'a' * 12}"):
        adapter_files.check_adapter_base(folder, "a" * 64, tmp_path)


def test_the_digest_is_that_of_what_decides_the_answers_and_a_copy_has_the_same(trained, tmp_path):
    folder, *_ = trained
    before, path = adapter_files.adapter_sha256(folder), folder / adapter_files.CONFIG
    adapter_files.copy_adapter(folder, tmp_path / "deep" / "copy")
    for name in (adapter_files.WEIGHTS, adapter_files.CONFIG):
        assert (tmp_path / "deep" / "copy" / name).read_bytes() == (folder / name).read_bytes()
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"model": "elsewhere", "thunder": {"base_sha256": "c" * 64}}))
    assert adapter_files.adapter_sha256(folder) == before == adapter_files.adapter_sha256(tmp_path / "deep" / "copy")
    path.write_text(json.dumps(config | {"num_layers": 3}))
    assert adapter_files.adapter_sha256(folder) != before
    path.write_text(json.dumps(config))
    weights = bytearray((folder / adapter_files.WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (folder / adapter_files.WEIGHTS).write_bytes(bytes(weights))
    assert adapter_files.adapter_sha256(folder) != before


@pytest.mark.parametrize("given", ["", "adapter_model.safetensors"])
def test_a_folder_of_peft_is_named_as_such(tmp_path, given):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8, "lora_alpha": 16}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    with pytest.raises(ModelError, match="an adapter of Hugging Face's PEFT; adapters here are mlx_lm's") as caught:
        adapter_files.find_adapter(str(tmp_path / given))
    assert "scale is lora_alpha / r" in caught.value.fix


def test_the_config_of_peft_alone_and_a_run_instead_of_its_adapter(trained, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    assert adapter_files.is_peft_adapter(tmp_path)
    folder, *_ = trained
    assert not adapter_files.is_peft_adapter(folder) and not adapter_files.is_peft_adapter(tmp_path / "nowhere")
    run = tmp_path / "run"
    adapter_files.copy_adapter(folder, run / "adapters")
    with pytest.raises(ModelError) as caught:
        adapter_files.find_adapter(str(run))
    assert caught.value.fix == f"--adapter-path {run / 'adapters'}"

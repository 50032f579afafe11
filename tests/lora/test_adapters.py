"""Adapters: mlx_lm reads what is saved, a disabled one is the base, and damaged or foreign ones are named."""

from __future__ import annotations

import json
import subprocess
import sys

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from small_adapters import train_adapter

from thunder.errors import ModelError
from thunder.lora import adapter_files, adapters, base_model
from thunder.lora.engine import fast_math
from thunder.lora.lora_settings import LoraSettings


@pytest.fixture
def trained(tiny_model, tmp_path):
    return train_adapter(tiny_model, tmp_path)


def logits(network):
    network.eval()
    return np.array(network(mx.array([[2, 5, 40, 41, 42, 43]])))


def test_mlx_lm_loads_a_saved_adapter(trained, tiny_model):
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


def test_a_disabled_adapter_is_the_base_to_the_bit(trained, tiny_model):
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

"""Weights of a Whisper encoder: every layout is read, and a missing or torn file is named."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import whisper_oracle as oracle
from mlx.utils import tree_flatten
from whisper_encoders import outputs

from thunder.acoustic.features import whisper_weights
from thunder.errors import ModelError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return oracle.save_model(tmp_path_factory.mktemp("whisper"), oracle.weights())


@pytest.fixture(scope="module")
def plain(model):
    return outputs(model)


def computed(folder, **more):
    return whisper_weights.load_encoder(folder, **more)[1].computed


@pytest.mark.parametrize("prefix", ["model.encoder.", "encoder.", "", "base_model.model.model.encoder.", "module."])
def test_prefixes_of_hugging_face(plain, tmp_path, prefix):
    assert computed(oracle.save_model(tmp_path, oracle.weights(), prefix=prefix)) == plain[1]


@pytest.mark.parametrize("prefix", ["model.encoder.", ""])
def test_tensors_beside_the_encoder_are_left_out(plain, tmp_path, prefix):
    folder = oracle.save_model(tmp_path, oracle.weights(), prefix=prefix)
    tensors = mx.load(str(folder / "model.safetensors"))
    more = {name: mx.zeros((2, 2)) for name in ("projector.weight", "classifier.weight", "layer_weights")}
    mx.save_safetensors(str(folder / "model.safetensors"), tensors | more)
    assert computed(folder) == plain[1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, value):
    tensors = oracle.weights()
    tensors["layers.1.fc2.weight"][0, 3] = value
    with pytest.raises(ModelError, match=r"layers\.1\.fc2\.weight has values that are not finite"):
        whisper_weights.load_encoder(oracle.save_model(tmp_path, tensors))


def test_an_adapter_that_is_not_merged_is_named(tmp_path):
    tensors = oracle.weights() | {"layers.0.self_attn.q_proj.lora_A.weight": np.zeros((2, 24), np.float32)}
    with pytest.raises(ModelError, match="an adapter that is not merged"):
        whisper_weights.load_encoder(oracle.save_model(tmp_path, tensors))


MLX_NAMES = {
    "self_attn.q_proj": "attn.query", "self_attn.k_proj": "attn.key", "self_attn.v_proj": "attn.value",
    "self_attn.out_proj": "attn.out", "self_attn_layer_norm": "attn_ln", "fc1": "mlp1", "fc2": "mlp2",
    "final_layer_norm": "mlp_ln",
}  # fmt: skip


def mlx_model(folder, name):
    """The same model as mlx-whisper has it: its names, convolutions as [out, time, in], no table of positions."""
    width, tensors = oracle.CONFIG["d_model"], {}
    for key, array in oracle.weights().items():
        if key == "embed_positions.weight":
            continue
        if key.startswith("layers."):
            _, layer, rest = key.split(".", 2)
            part, kind = rest.rsplit(".", 1)
            key = f"blocks.{layer}.{MLX_NAMES[part]}.{kind}"
        elif key.startswith("layer_norm."):
            key = key.replace("layer_norm", "ln_post")
        tensors["encoder." + key] = mx.array(array.transpose(0, 2, 1) if array.ndim == 3 else array)
    tensors["decoder.positional_embedding"] = mx.zeros((3, width))
    tensors["alignment_heads"] = mx.zeros((2, 2), mx.int32)
    if name.endswith("npz"):
        mx.savez(str(folder / name), **tensors)
    else:
        mx.save_safetensors(str(folder / name), tensors)
    config = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": width, "n_audio_head": 4, "n_audio_layer": 3}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", ["weights.npz", "weights.safetensors", "model.safetensors"])
def test_weights_of_mlx_whisper(tmp_path, name, monkeypatch):
    # mlx-whisper's MLP is always four times as wide as the model
    monkeypatch.setattr(oracle, "CONFIG", oracle.CONFIG | {"encoder_ffn_dim": 96})
    found, digests = whisper_weights.load_encoder(mlx_model(tmp_path, name))
    copy = oracle.save_model(tmp_path / "hf", oracle.weights(), oracle.CONFIG)
    wanted, wanted_digests = whisper_weights.load_encoder(copy)
    assert digests.computed == wanted_digests.computed and digests.stored != wanted_digests.stored
    wanted, found = dict(tree_flatten(wanted.parameters())), dict(tree_flatten(found.parameters()))
    assert wanted.keys() == found.keys()
    assert all(np.abs(np.array(wanted[key]) - np.array(found[key])).max() < 1e-3 for key in wanted)


def test_weights_in_several_files(plain, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(oracle.CONFIG))
    tensors = {"model.encoder." + name: mx.array(array) for name, array in oracle.weights().items()}
    names, where = sorted(tensors), {}
    for number, part in enumerate((names[:9], names[9:])):
        file = f"model.fp32-{number}.safetensors"
        mx.save_safetensors(str(tmp_path / file), {name: tensors[name] for name in part})
        where |= dict.fromkeys(part, file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    assert computed(tmp_path) == plain[1]
    (tmp_path / "model.fp32-1.safetensors").unlink()
    with pytest.raises(ModelError, match="model.fp32-1.safetensors"):
        whisper_weights.load_encoder(tmp_path)


def test_the_digest_is_that_of_the_weights(plain, tmp_path):
    tensors = oracle.weights()
    tensors["layers.2.fc1.bias"][3] += 1e-3
    assert computed(oracle.save_model(tmp_path, tensors)) != plain[1]


def test_the_digest_is_of_a_changed_table_of_positions(plain, tmp_path):
    tensors = oracle.weights()
    tensors["embed_positions.weight"] = tensors["embed_positions.weight"] + 0.1
    assert computed(oracle.save_model(tmp_path, tensors)) != plain[1]


def test_a_missing_and_a_misshapen_weight_are_both_named(tmp_path):
    tensors = oracle.weights()
    del tensors["layers.1.fc1.bias"]
    tensors["conv2.weight"] = tensors["conv2.weight"][:, :-1]
    tensors["layers.9.fc1.bias"] = tensors["layers.0.fc1.bias"]
    with pytest.raises(ModelError) as error:
        whisper_weights.load_encoder(oracle.save_model(tmp_path, tensors))
    assert "layers.1.fc1.bias is missing" in error.value.message
    assert "conv2.weight is [24, 3, 23], config.json implies [24, 3, 24]" in error.value.message
    assert "layers.9.fc1.bias is in the weights, but not in an encoder with this config" in error.value.message
    assert "--features logmel" in error.value.fix


def test_weights_that_are_not_there_or_torn(model, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(oracle.CONFIG))
    with pytest.raises(ModelError, match="has no weights") as error:
        whisper_weights.load_encoder(tmp_path)
    assert "model.safetensors" in error.value.fix and "--features logmel" in error.value.fix
    whole = (model / "model.safetensors").read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 4):
        (tmp_path / "model.safetensors").write_bytes(whole[:size])
        with pytest.raises(ModelError, match=str(tmp_path)):
            whisper_weights.load_encoder(tmp_path)


def test_a_name_on_the_hub_is_answered_with_what_to_download(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="'openai/whisper-large-v3' is not a folder here") as error:
        whisper_weights.load_encoder(Path("openai/whisper-large-v3"))
    assert "hf download openai/whisper-large-v3 config.json model.safetensors" in error.value.fix
    with pytest.raises(ModelError, match="there is no such folder"):
        whisper_weights.load_encoder(tmp_path / "none")

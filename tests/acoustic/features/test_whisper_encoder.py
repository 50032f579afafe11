"""The encoder against transformers' (stored outputs, and live where torch is), and folders that cannot be loaded."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import whisper_oracle as oracle
from whisper_encoders import outputs

from thunder.acoustic.features import whisper_weights
from thunder.acoustic.features.log_mel import log_mel

needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs torch")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return oracle.save_model(tmp_path_factory.mktemp("whisper"), oracle.weights())


@pytest.fixture(scope="module")
def plain(model):
    return outputs(model)


@pytest.mark.expensive
def test_equals_the_stored_outputs_of_transformers(plain):
    found, _ = plain
    wanted = np.load(oracle.STORED)["outputs"]
    assert found.shape == (1500, 24) and np.abs(wanted).max() > 1
    assert np.abs(found[oracle.KEPT] - wanted).max() < 1e-4


@needs_torch
@pytest.mark.parametrize("change", [{"encoder_layers": 1, "encoder_attention_heads": 2, "num_mel_bins": 128}], ids=str)
def test_equals_transformers(tmp_path, change, monkeypatch):
    config = oracle.CONFIG | change
    monkeypatch.setattr(oracle, "CONFIG", config)
    tensors = oracle.weights(seed=11)
    found, _ = outputs(oracle.save_model(tmp_path, tensors, config))
    assert np.abs(found - oracle.by_transformers(tensors, oracle.mel(), config)).max() < 1e-4


@needs_torch
def test_a_model_that_transformers_saved(tmp_path):
    """A whole small model; or, to see that real weights are read rightly, the one in the folder THUNDER_WHISPER."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration, WhisperModel

    folder = os.environ.get("THUNDER_WHISPER")
    if not folder:
        torch.manual_seed(3)
        small = {name: value for name, value in oracle.CONFIG.items() if name != "model_type"}
        small |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 8, "vocab_size": 60}
        tokens = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 4}
        model = WhisperForConditionalGeneration(WhisperConfig(**small, **tokens, encoder_layerdrop=0.0))
        model.save_pretrained(folder := str(tmp_path))
    encoder, _ = whisper_weights.load_encoder(Path(folder))
    mel = log_mel(0.1 * np.random.default_rng(0).standard_normal(80000), encoder.sizes.n_mels, 3000)
    theirs = WhisperModel.from_pretrained(folder, dtype=torch.float32).encoder.eval()
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(mel.T[None].copy())).last_hidden_state[0].numpy()
    found = np.array(encoder(mx.array(mel)[None])[0])
    assert np.abs(found - wanted).max() < 1e-4 * max(1.0, np.abs(wanted).max())


@pytest.mark.slow
def test_float16_is_near(model, plain):
    exact, identity = plain
    rounded, same = outputs(model, precision="float16")
    assert same == identity
    assert 0 < np.abs(exact - rounded).max() < 0.05

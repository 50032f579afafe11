"""The configuration of a Whisper model: one that does not fit is refused by name."""

from __future__ import annotations

import json

import pytest
import whisper_oracle as oracle

from thunder.acoustic.features.whisper_config import read_sizes
from thunder.errors import ModelError


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", "config.json: damaged"),
        ("[]", "is not the config of a Whisper model"),
        ('{"hidden_size": 3}', "is not the config of a Whisper model"),
        (oracle.CONFIG | {"max_source_positions": 100}, "'max_source_positions' is 100, expected 1500"),
        (oracle.CONFIG | {"model_type": "moonshine"}, "'model_type' is 'moonshine'"),
        (oracle.CONFIG | {"activation_function": "relu"}, "'activation_function' is 'relu'"),
        (oracle.CONFIG | {"encoder_layers": "3"}, "'encoder_layers' is '3', expected a whole number"),
        (oracle.CONFIG | {"encoder_attention_heads": 5}, "cannot be divided into 5 heads"),
        (oracle.CONFIG | {"quantization": {"bits": 4}}, "its weights are quantized"),
        (oracle.CONFIG | {"scale_embedding": True}, "'scale_embedding' is true"),
    ],
    ids=range(10),
)
def test_a_config_that_does_not_fit(tmp_path, config, said):
    (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(ModelError, match=said):
        read_sizes(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match="No such file"):
        read_sizes(tmp_path)

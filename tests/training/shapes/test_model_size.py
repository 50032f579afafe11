"""The size of a model by its config.json: every weight of the real model is counted, too little is no size."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from conftest import TINY_GEMMA3N
from costed_models import CONFIGS, network_of
from mlx.utils import tree_flatten

from thunder.training.shapes.model_size import E2B_CONFIG, model_size_from_config, model_size_from_dict


def test_every_weight_is_counted():
    for config in CONFIGS:
        held = tree_flatten(network_of(config, 1).parameters())
        # mlx_lm's gemma3 has a head of its own until it loads weights without one
        large = [array.size for name, array in held if array.ndim > 1 and "lm_head" not in name]
        lora = 4 * sum(wide_in + wide_out for _, wide_in, wide_out in model_size_from_config(config).adapted(-1))
        assert model_size_from_config(config).weights == sum(large) - lora, config["model_type"]
    four_bits = model_size_from_config(E2B_CONFIG | {"quantization": {"bits": 4, "group_size": 64}})
    assert four_bits.weights == pytest.approx(4.63e9, rel=0.01)  # the model card's 5.1e9 has two more encoders
    assert four_bits.weight == 0.5 + 4 / 64  # a scale and a bias of two bytes for each 64 weights
    assert model_size_from_dict(json.loads(json.dumps(asdict(four_bits)))) == four_bits


TOO_LITTLE = [
    {}, {"hidden_size": "wide"}, E2B_CONFIG | {"num_kv_shared_layers": 35}, E2B_CONFIG | {"enable_moe_block": True},
    {"text_config": {"hidden_size": None}}, {"text_config": TINY_GEMMA3N | {"intermediate_size": [48]}},
]  # fmt: skip


@pytest.mark.parametrize("config", TOO_LITTLE)
def test_a_config_that_says_too_little_is_no_size(config):
    assert model_size_from_config(config) is None

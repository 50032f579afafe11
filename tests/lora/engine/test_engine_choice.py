"""The engine is chosen by the model's type, and the plan names the work that it skips."""

from __future__ import annotations

from conftest import TINY_GEMMA3N
from engine_oracle import trainable
from split_models import fresh

from thunder.lora.engine.engine_choice import EngineChoice, choose_engine, make_engine
from thunder.lora.engine.full_model_engine import FullModelEngine


def test_the_engine_is_chosen_by_model_type():
    text = {"num_hidden_layers": 35, "num_kv_shared_layers": 20}
    assert choose_engine({"model_type": "gemma4", "text_config": text}, 4) == EngineChoice(
        "gemma4", "head and the last 20 of 35 layers only at supervised positions; 31 frozen layers once for each row"
    )
    assert "no layer is frozen" in choose_engine({"model_type": "gemma3_text", "num_hidden_layers": 9}, -1).reason
    llama = choose_engine({"model_type": "llama", "num_hidden_layers": 9}, 4)
    assert llama.name == "plain" and "'llama'" in llama.reason
    network = trainable(fresh("gemma3"), 1)
    network.model_type = "llama"
    assert isinstance(make_engine(network, 1, []), FullModelEngine)


def test_the_plan_names_the_skipped_work():
    config = {"model_type": "gemma3n", "text_config": TINY_GEMMA3N}
    chosen = choose_engine(config, 2)
    assert chosen.name == "gemma3n"
    assert chosen.reason == (
        "head and the last 3 of 6 layers only at supervised positions; they use keys and values of earlier layers, "
        "as in generation; 4 frozen layers once for each row"
    )

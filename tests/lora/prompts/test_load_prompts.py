"""The tokenizer of a model folder, its chat template, and the prompt format of an adapter."""

from __future__ import annotations

import pytest
from conftest import make_rows

from thunder.lora.prompts import load_prompts
from thunder.lora.prompts.prompt_format import PromptFormat


@pytest.fixture
def model_copy(tiny_model, tmp_path):
    import shutil

    return shutil.copytree(tiny_model, tmp_path / "model")


def test_a_base_model_without_a_template_gets_gemmas_form(model_copy, tiny_model):
    (model_copy / "chat_template.jinja").unlink()
    bare = load_prompts.load_tokenizer(model_copy)
    messages = make_rows(1)[0]["messages"]
    own = load_prompts.load_tokenizer(tiny_model)
    assert bare.apply_chat_template(messages, return_dict=False) == own.apply_chat_template(messages, return_dict=False)
    assert load_prompts.template_note(PromptFormat(bare)) == "Gemma 4's form"


def test_one_that_knows_gemma_3s_turns_gets_gemma_3s_form(model_copy):
    (model_copy / "chat_template.jinja").unlink()
    path = model_copy / "tokenizer.json"
    path.write_text(path.read_text().replace("<|turn>", "<start_of_turn>").replace("<turn|>", "<end_of_turn>"))
    bare = load_prompts.load_tokenizer(model_copy)
    assert load_prompts.template_note(PromptFormat(bare)) == "Gemma 3's form"
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
        load_prompts.load_tokenizer(model_copy)


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
        load_prompts.load_tokenizer(model_copy)


def test_an_adapter_brings_its_own_template_with_its_line_ends(model_copy, tmp_path):
    import json

    from thunder.lora import adapter_files
    from thunder.text.chat import GEMMA_TEMPLATE

    template = GEMMA_TEMPLATE.replace("\n", "\r\n")
    tokenizer = load_prompts.load_tokenizer(model_copy, template)
    prompts = PromptFormat(tokenizer, [1])
    (tmp_path / adapter_files.WEIGHTS).touch()
    (tmp_path / adapter_files.TEMPLATE).write_bytes(template.encode())
    config = {"num_layers": 1, "lora_parameters": {}, "thunder": {"prompt": prompts.describe()}}
    (tmp_path / adapter_files.CONFIG).write_text(json.dumps(config))
    (model_copy / "chat_template.jinja").unlink()
    assert load_prompts.load_prompt_format(model_copy, tmp_path).describe() == prompts.describe()


@pytest.mark.parametrize("value", ["x", {"prompt": None}, []])
def test_a_foreign_key_thunder_in_a_config_is_passed_over(model_copy, value):
    import json

    config = json.loads((model_copy / "config.json").read_text())
    (model_copy / "config.json").write_text(json.dumps(config | {"thunder": value}))
    assert load_prompts.load_prompt_format(model_copy).stops == {1, 6}

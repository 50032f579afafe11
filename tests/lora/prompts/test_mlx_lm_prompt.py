"""The prompt of `mlx_lm generate`, by mlx_lm's own tokenizer, against the training prompt."""

from __future__ import annotations

import json
import shutil

import pytest
from chat_templates import FAMILIES, THINKING, family_tokenizer

from thunder.corpora.rows.chat_rows import ChatRow
from thunder.errors import ModelError
from thunder.lora.prompts import mlx_lm_prompt
from thunder.lora.prompts.load_prompts import load_prompt_format, load_tokenizer
from thunder.lora.prompts.prompt_format import PromptFormat
from thunder.text.chat import correction_messages

ROWS = [ChatRow(tuple(correction_messages(text, text)), f"rows.jsonl:{n}", str(n)) for n, text in enumerate("ߊߓߞ")]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def model_of(tiny_model, tmp_path):
    """A copy of the tiny model with the template and control tokens of a family."""

    def make(family, template=True):
        folder = shutil.copytree(tiny_model, tmp_path / family)
        tokenizer, ends = family_tokenizer(load_tokenizer(tiny_model), family)
        (folder / "chat_template.jinja").unlink()
        tokenizer.save_pretrained(folder)
        if not template:
            (folder / "chat_template.jinja").unlink()
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": [1, *ends]}))
        return folder

    return make


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_to_what_mlx_lm_renders(model_of, family):
    folder = model_of(family)
    for switches in [None] + [{"enable_thinking": on} for on in (True, False) if family in THINKING]:
        prompts = load_prompt_format(folder, template_kwargs=switches)
        assert mlx_lm_prompt.check_generation_prompt(folder, prompts, ROWS) == 3
    assert mlx_lm_prompt.generation_folder(folder, prompts) == folder


@pytest.mark.parametrize("family", ["gemma3", "gemma4"])
def test_a_base_without_a_template_gets_a_folder_that_has_one(model_of, family):
    folder = model_of(family, template=False)
    prompts = load_prompt_format(folder)
    assert mlx_lm_prompt.check_generation_prompt(folder, prompts, ROWS) == 3
    made = mlx_lm_prompt.generation_folder(folder, prompts)
    assert made != folder and mlx_lm_prompt.generation_folder(folder, prompts) == made
    assert load_tokenizer(made).chat_template == prompts.chat_template
    assert (made / "model.safetensors").samefile(folder / "model.safetensors")


def test_a_base_that_does_not_name_the_end_of_a_turn(model_of):
    folder = model_of("llama3")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": 1}))
    prompts = load_prompt_format(folder)
    made = mlx_lm_prompt.make_generation_folder(folder, prompts)
    assert made != folder
    assert set(json.loads((made / "generation_config.json").read_text())["eos_token_id"]) == prompts.stops
    assert mlx_lm_prompt.check_generation_prompt(folder, prompts, ROWS) == 3


def test_a_switch_that_mlx_lm_sets_otherwise_is_refused_by_name(model_of):
    """An adapter of an earlier version was trained without the switch; mlx_lm then turns thinking on."""
    folder = model_of("qwen3")
    prompts = PromptFormat(load_tokenizer(folder), [], {})
    prompts.template_kwargs = {"enable_thinking": False, "unknown": 1}
    assert mlx_lm_prompt.check_generation_prompt(folder, prompts, ROWS) == 3
    other = load_prompt_format(folder, template_kwargs={"enable_thinking": True})
    prompts.prompt, prompts.training_tokens = other.prompt, other.training_tokens
    with pytest.raises(ModelError, match=r"rows.jsonl:0: the training prompt is not the one that mlx_lm renders"):
        mlx_lm_prompt.check_generation_prompt(folder, prompts, ROWS)


def test_rows_that_mlx_lm_cannot_ask_are_passed_over(model_of):
    folder = model_of("qwen3")
    prompts = load_prompt_format(folder)
    several = ChatRow((*ROWS[0].messages, *ROWS[1].messages), "rows.jsonl:9", "9")
    assert mlx_lm_prompt.check_generation_prompt(folder, prompts, [several, ROWS[2]]) == 1

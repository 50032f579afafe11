"""Prompts and answers as tokens, for the chat templates of the families that users train."""

from __future__ import annotations

import pytest
from chat_templates import FAMILIES, THINKING, family_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.errors import CorpusError, ModelError
from thunder.lora.prompts.load_prompts import load_tokenizer
from thunder.lora.prompts.prompt_format import PromptFormat, fold_system
from thunder.text.chat import correction_messages

TEXT, ANSWER = "ߊ߬ ߞߊ ߓߊ", "ߊ߬ ߞߊ߬ ߓߊ߫"


@pytest.fixture(scope="module")
def plain(tiny_model):
    return load_tokenizer(tiny_model)


def format_of(plain, family, **switches):
    tokenizer, ends = family_tokenizer(plain, family)
    return PromptFormat(tokenizer, ends, switches or None)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


def question(text=TEXT):
    return correction_messages(text, ANSWER)[:-1]


def rendered(prompts, messages, **switches):
    """The generation prompt by transformers itself."""
    return prompts.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False, **(switches or {"enable_thinking": False})
    )


def test_a_row_is_the_generation_prompt_the_answer_and_the_end_of_turn(plain, family):
    prompts = format_of(plain, family)
    tokens = prompts.training_tokens(question(), ANSWER)
    assert tokens.ids[: tokens.offset] == rendered(prompts, question()) == prompts.prompt(question()).ids
    answer = tokens.ids[tokens.offset :]
    stop = next(place for place, token in enumerate(answer) if token in prompts.stops)
    assert prompts.decode(answer[:stop]) == ANSWER
    assert prompts.answer(prompts.prompt(question()), ANSWER) == answer[: stop + 1]
    assert prompts.tokenizer.decode(answer[stop]) in FAMILIES[family][2]


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in THINKING])
def test_without_an_empty_thought_the_row_is_the_template_s_own(plain, family):
    """Where the template writes the same before an answer as in a generation prompt, nothing changes."""
    prompts = format_of(plain, family)
    whole = prompts.tokenizer.apply_chat_template(
        [*question(), {"role": "assistant", "content": ANSWER}], return_dict=False
    )
    assert prompts.training_tokens(question(), ANSWER).ids == whole


def test_a_row_is_what_is_written_by_hand(plain, family):
    prompts = format_of(plain, family)
    asked = prompts.tokenizer.apply_chat_template(
        question(), add_generation_prompt=True, tokenize=False, enable_thinking=False
    )
    ends = {"llama3": "<|eot_id|>", "qwen3": "<|im_end|>\n", "glm4": "<|user|>", "gemma4": "<turn|>\n"}
    by_hand = asked + ANSWER + ends.get(family, "<end_of_turn>\n")
    assert prompts.training_tokens(question(), ANSWER).ids == prompts.tokenizer(
        by_hand, add_special_tokens=False
    )["input_ids"]  # fmt: skip


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("family_name", THINKING)
def test_the_switch_of_the_thought_channel(plain, family_name, thinking):
    prompts = format_of(plain, family_name, enable_thinking=thinking)
    assert prompts.prompt(question()).ids == rendered(prompts, question(), enable_thinking=thinking)
    assert prompts.template_kwargs == {"enable_thinking": thinking}
    text = prompts.tokenizer.decode(prompts.prompt(question()).ids)
    assert ("<channel|>" in text or "</think>" in text) is not thinking
    other = format_of(plain, family_name, enable_thinking=not thinking)
    assert other.prompt(question()).ids != prompts.prompt(question()).ids


def test_a_template_without_a_switch_is_given_none(plain):
    assert format_of(plain, "llama3").template_kwargs == {}


@pytest.mark.parametrize("family_name", ["gemma2", "gemma3", "qwen3", "llama3", "glm4", "gemma4"])
def test_a_system_message_is_in_every_prompt(plain, family_name):
    """Gemma 2's template refuses one; then it stands before the question, as Gemma 3's own template has it."""
    prompts = format_of(plain, family_name)
    system = {"role": "system", "content": "ߛߓߍ ߢߊ"}
    ids = prompts.prompt([system, *question()]).ids
    assert system["content"] in prompts.tokenizer.decode(ids)
    assert prompts.folds_system is (family_name == "gemma2")
    expected = fold_system([system, *question()]) if prompts.folds_system else [system, *question()]
    assert ids == rendered(prompts, expected)


def test_turns_that_the_template_refuses_are_named(plain):
    prompts = format_of(plain, "gemma3")
    with pytest.raises(CorpusError, match="refuses a conversation of the turns user, user: Roles must alternate"):
        prompts.prompt([*question(), *question()])


def test_tools_and_tool_turns_are_rendered(plain):
    prompts = format_of(plain, "qwen3")
    tools = [{"type": "function", "function": {"name": "dict_lookup", "parameters": {}}}]
    messages = [*question(), {"role": "assistant", "content": "x"}, {"role": "tool", "content": "ߛߏ"}]
    text = prompts.tokenizer.decode(prompts.prompt(messages, tools).ids)
    assert "dict_lookup" in text and "<tool_response>\nߛߏ\n</tool_response>" in text


@pytest.mark.parametrize(("family_name", "trims"), [("gemma3", True), ("llama3", True), ("qwen3", False)])
def test_an_answer_is_trimmed_where_the_template_trims(plain, family_name, trims):
    prompts = format_of(plain, family_name)
    assert prompts.trims is trims
    tokens = prompts.training_tokens(question(), f" {ANSWER} ")
    stop = next(place for place, token in enumerate(tokens.ids[tokens.offset :]) if token in prompts.stops)
    said = prompts.decode(tokens.ids[tokens.offset :][:stop])
    assert said == (ANSWER if trims else f" {ANSWER} ")


def test_control_tokens_in_texts_are_text(plain, family):
    prompts = format_of(plain, family)
    controls = FAMILIES[family][1]
    injected = f"{TEXT} {controls[-1]}\n{controls[0]}user"
    tokens = prompts.training_tokens(question(injected), f"ߊ{controls[-1]}ߓ{controls[0]}")
    clean = prompts.training_tokens(question(), ANSWER)
    ids = [prompts.tokenizer.convert_tokens_to_ids(each) for each in controls]
    assert [token for token in tokens.ids if token in ids] == [token for token in clean.ids if token in ids]
    assert injected in prompts.tokenizer.decode(tokens.ids[: tokens.offset])
    assert f"ߊ{controls[-1]}ߓ{controls[0]}" in prompts.tokenizer.decode(tokens.ids[tokens.offset :])
    assert set(tokens.control_tokens) == {controls[-1], controls[0]} and not clean.control_tokens
    assert prompts.prompt(question(injected)).ids == tokens.ids[: tokens.offset]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([*"ߊߓߞߟߡ߫߬", " ", "\n", "<", "|", ">", "turn", "<|turn>", "<turn|>", "a"]), max_size=24).map(
        "".join
    )
)
def test_any_answer_comes_back_from_its_tokens(plain, text):
    prompts = PromptFormat(plain, [])
    ids = prompts.answer(prompts.prompt(question()), text)
    assert ids[-1] in prompts.stops and not prompts.stops & set(ids[:-1])
    assert prompts.decode(ids[:-1]) == text.strip()


def test_a_template_that_drops_answers_is_refused(plain):
    import copy

    tokenizer = copy.deepcopy(plain)
    tokenizer.chat_template = "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(ModelError, match="drops the answer"):
        PromptFormat(tokenizer, [])


def test_the_record_holds_what_an_answer_needs(plain):
    prompts = format_of(plain, "gemma4")
    record = prompts.describe()
    assert record["chat_template_config"] == {"enable_thinking": False}
    assert record["end_of_turn"] == "<turn|>\n" and set(record["stop_ids"]) == prompts.stops


def with_template(plain, template, *ends):
    import copy

    tokenizer = copy.deepcopy(plain)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>", "<|final|>"]})
    tokenizer.chat_template = template
    return PromptFormat(tokenizer, [tokenizer.convert_tokens_to_ids(each) for each in ends])


TURNS = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + BEFORE + m['content'] + '<eos>' }}{% endfor %}"
ASKS = "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"


@pytest.mark.parametrize("before", ["\n", " ", "<|final|>ߊ\n"])
def test_what_stands_between_the_generation_prompt_and_an_answer_is_learned(plain, before):
    template = TURNS.replace("BEFORE", repr(before)) + ASKS
    prompts = with_template(plain, template)
    messages = [*question(), {"role": "assistant", "content": ANSWER}]
    tokens = prompts.training_tokens(question(), ANSWER)
    assert tokens.ids == prompts.tokenizer.apply_chat_template(messages, return_dict=False)
    assert prompts.decode(tokens.ids[tokens.offset : -1]) == ANSWER


def test_a_template_that_trims_one_side(plain):
    template = TURNS.replace("BEFORE", "''").replace("m['content']", "m['content'].lstrip()") + ASKS
    prompts = with_template(plain, template)
    assert not prompts.trims and prompts.end_of_turn == "<eos>"
    ids = prompts.answer(prompts.prompt(question()), f" {ANSWER} ")
    assert prompts.decode(ids[:-1]) == f"{ANSWER} "


def test_of_several_named_templates_the_default_counts(plain):
    template = TURNS.replace("BEFORE", "''") + ASKS
    prompts = with_template(plain, {"default": template, "tool_use": "x"})
    assert prompts.chat_template == template
    with pytest.raises(ModelError, match="named rag, and none is the default"):
        with_template(plain, {"rag": template})


def test_the_date_of_a_prompt_is_pinned(plain):
    dated = "{% if not date_string is defined %}{% set date_string = strftime_now('%s') %}{% endif %}{{ date_string }}"
    prompts = with_template(plain, dated + TURNS.replace("BEFORE", "''") + ASKS)
    assert set(prompts.template_kwargs) == {"date_string"}
    again = PromptFormat(prompts.tokenizer, [], prompts.template_kwargs)
    assert again.prompt(question()).ids == prompts.prompt(question()).ids


def test_control_tokens_in_tools_are_refused(plain):
    prompts = format_of(plain, "qwen3")
    with pytest.raises(CorpusError, match="its tools name control tokens of the model: <think>"):
        prompts.prompt(question(), [{"function": {"name": "<think>"}}])

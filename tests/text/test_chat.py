import jinja2
import jinja2.sandbox
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunder.text.chat import (
    CORRECTION_INSTRUCTION,
    GEMMA3_TEMPLATE,
    GEMMA_TEMPLATE,
    correction_messages,
    correction_prompt,
)

PLAIN = jinja2.Environment()
# as transformers renders chat templates
LIKE_TRANSFORMERS = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
CONTENT = st.text(st.sampled_from("\u07ca\u07d3\u07eb\u07f2 \n{}<|>a"), max_size=10)


def render(messages, environment=PLAIN, template=GEMMA_TEMPLATE, **options):
    return environment.from_string(template).render(messages=messages, bos_token="<bos>", **options)


def test_the_prompt_is_the_instruction_then_the_text_in_normal_form():
    prompt = correction_prompt("\u07d3\u07ca\u07ec\u07f2")
    assert prompt == CORRECTION_INSTRUCTION + "\n\u07d3\u07ca\u07f2\u07ec"


def test_a_correction_is_a_question_and_its_answer():
    assert correction_messages("ߓߊ", "ߓߊ߬") == [
        {"role": "user", "content": f"{CORRECTION_INSTRUCTION}\nߓߊ"},
        {"role": "assistant", "content": "ߓߊ߬"},
    ]


@pytest.mark.parametrize("environment", [PLAIN, LIKE_TRANSFORMERS])
def test_the_template_writes_turns(environment):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " ߓߊ \n"},
        {"role": "assistant", "content": "ߓߊ߬"},
    ]
    assert render(messages, environment) == (
        "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\nߓߊ<turn|>\n<|turn>model\nߓߊ߬<turn|>\n"
    )


@pytest.mark.parametrize("environment", [PLAIN, LIKE_TRANSFORMERS])
def test_gemma_3s_form_has_the_systems_words_in_the_first_turn(environment):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " ߓߊ \n"},
        {"role": "assistant", "content": "ߓߊ߬"},
        {"role": "user", "content": "ߓ"},
    ]
    turns = (
        "ߓߊ<end_of_turn>\n<start_of_turn>model\nߓߊ߬<end_of_turn>\n<start_of_turn>user\nߓ<end_of_turn>\n"
        "<start_of_turn>model\n"
    )
    rendered = render(messages, environment, GEMMA3_TEMPLATE, add_generation_prompt=True)
    assert rendered == "<bos><start_of_turn>user\nBe brief.\n\n" + turns
    rendered = render(messages[1:], environment, GEMMA3_TEMPLATE, add_generation_prompt=True)
    assert rendered == "<bos><start_of_turn>user\n" + turns


@pytest.mark.parametrize("environment", [PLAIN, LIKE_TRANSFORMERS])
def test_the_generation_prompt_opens_the_models_turn(environment):
    rendered = render(correction_messages("ߓߊ", "")[:1], environment, add_generation_prompt=True)
    assert rendered == f"<bos><|turn>user\n{CORRECTION_INSTRUCTION}\nߓߊ<turn|>\n<|turn>model\n"


@pytest.mark.expensive
@pytest.mark.parametrize(("template", "end"), [(GEMMA_TEMPLATE, "<turn|>"), (GEMMA3_TEMPLATE, "<end_of_turn>")])
@given(st.lists(CONTENT, max_size=3), CONTENT)
def test_the_prompt_is_an_exact_prefix_of_the_conversation(template, end, questions, answer):
    messages = [{"role": "user", "content": content} for content in questions]
    messages.append({"role": "assistant", "content": answer})
    prompt = render(messages[:-1], template=template, add_generation_prompt=True)
    assert render(messages, template=template) == f"{prompt}{answer.strip()}{end}\n"

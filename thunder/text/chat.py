"""The correction prompt, and the chat templates that turn messages into a prompt."""

from __future__ import annotations

from thunder.text.normalize import normalize_text

CORRECTION_INSTRUCTION = "Correct this N'Ko transcript:"

# Gemma's forms, for models that bring no template of their own. Every tag strips its surroundings, so that the
# text between the tags is only what is printed, whatever the environment's trim_blocks and lstrip_blocks say.
GEMMA_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{- '<|turn>' + role + '\\n' + message['content'] | trim + '<turn|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|turn>model\\n' -}}
{%- endif -%}
"""
# Gemma 3 and 3n have no system turn: the system message is put before the first turn
GEMMA3_TEMPLATE = """\
{{- bos_token -}}
{%- set system = messages[0]['content'] + '\\n\\n' if messages and messages[0]['role'] == 'system' else '' -%}
{%- for message in (messages[1:] if system else messages) -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{- '<start_of_turn>' + role + '\\n' + (system if loop.first else '') + message['content'] | trim -}}
    {{- '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<start_of_turn>model\\n' -}}
{%- endif -%}
"""


def correction_prompt(asr_text: str) -> str:
    """Return the user's turn for a correction: the instruction, a line end, the text in NFC."""
    return f"{CORRECTION_INSTRUCTION}\n{normalize_text(asr_text)}"


def correction_messages(asr_text: str, reference_text: str) -> list[dict[str, str]]:
    """Return one correction as chat messages: the user's prompt and the assistant's answer, both in NFC."""
    return [
        {"role": "user", "content": correction_prompt(asr_text)},
        {"role": "assistant", "content": normalize_text(reference_text)},
    ]

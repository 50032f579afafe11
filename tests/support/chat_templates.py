"""Chat templates in the forms of the model families that users train, with their quirks; written for these tests.

Each has the turns, the end of turn, the trimming, the refusals and the generation prompt of its family's template.
"""

from __future__ import annotations

GEMMA2 = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
{% for message in messages %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}\
{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}\
{{ message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

GEMMA3 = """\
{{ bos_token }}{% set first = '' %}{% set turns = messages %}\
{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\\n\\n' %}\
{% set turns = messages[1:] %}{% endif %}{% for message in turns %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}\
{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}\
{{ (first if loop.first else '') }}{{ message['content'] | trim }}{{ '<end_of_turn>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

GEMMA4 = """\
{{ bos_token }}{% set on = enable_thinking | default(false) %}\
{% if on or tools or messages[0]['role'] == 'system' %}{{ '<|turn>system\\n' }}{% if on %}{{ '<|think|>' }}{% endif %}\
{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}{% endif %}\
{% for tool in tools or [] %}{{ '<|tool>' + tool['function']['name'] + '<tool|>' }}{% endfor %}\
{{ '<turn|>\\n' }}{% endif %}{% for message in messages if message['role'] != 'system' %}\
{{ '<|turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}\
{{ message['content'] | trim }}{{ '<turn|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|turn>model\\n' }}\
{% if not on %}{{ '<|channel>thought\\n<channel|>' }}{% endif %}{% endif %}"""

QWEN3 = """\
{% if tools %}{{ '<|im_start|>system\\n# Tools\\n' }}{% for tool in tools %}{{ tool | tojson }}{% endfor %}\
{{ '<|im_end|>\\n' }}{% endif %}{% for message in messages %}\
{% set content = message['content'] %}\
{% if message['role'] == 'assistant' %}{% if '</think>' in content %}\
{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}\
{{ '<|im_start|>assistant\\n' }}{% if loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}\
{{ content.lstrip('\\n') + '<|im_end|>\\n' }}\
{% elif message['role'] == 'tool' %}{{ '<|im_start|>user\\n<tool_response>\\n' + content + '\\n</tool_response>' }}\
{{ '<|im_end|>\\n' }}\
{% else %}{{ '<|im_start|>' + message['role'] + '\\n' + content + '<|im_end|>\\n' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}\
{% if enable_thinking is defined and enable_thinking is false %}\
{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"""

LLAMA3 = """\
{{ bos_token }}{% for message in messages %}\
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

# nothing is written after an answer: the next turn's first token ends it
GLM4 = """\
[gMASK]<sop>{% for message in messages %}{% if message['role'] == 'tool' %}\
{{ '<|observation|>\\n' + message['content'] }}{% else %}\
{{ '<|' + message['role'] + '|>\\n' + message['content'] | trim }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}\
{% if enable_thinking is defined and not enable_thinking %}{{ '<think></think>\\n' }}{% endif %}{% endif %}"""

FAMILIES = {  # name -> (template, control tokens, tokens that end an answer)
    "gemma2": (GEMMA2, ("<start_of_turn>", "<end_of_turn>"), ("<end_of_turn>",)),
    "gemma3": (GEMMA3, ("<start_of_turn>", "<end_of_turn>"), ("<end_of_turn>",)),
    "gemma3n": (GEMMA3, ("<start_of_turn>", "<end_of_turn>", "<audio_soft_token>"), ("<end_of_turn>",)),
    "gemma4": (
        GEMMA4,
        ("<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think|>", "<|tool>", "<tool|>"),
        ("<turn|>",),
    ),
    "qwen3": (QWEN3, ("<|im_start|>", "<|im_end|>", "<think>", "</think>"), ("<|im_end|>",)),
    "llama3": (LLAMA3, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), ("<|eot_id|>",)),
    "glm4": (
        GLM4,
        ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "<think>", "</think>"),
        ("<|user|>", "<|observation|>"),
    ),
}
THINKING = ("gemma4", "qwen3", "glm4")  # families whose template has the switch `enable_thinking`


def family_tokenizer(tokenizer, family):
    """A copy of a tokenizer with the template and the control tokens of a family, and the ids that end an answer."""
    import copy

    template, controls, ends = FAMILIES[family]
    changed = copy.deepcopy(tokenizer)
    changed.add_special_tokens({"additional_special_tokens": list(controls)})
    changed.chat_template = template
    return changed, [changed.convert_tokens_to_ids(each) for each in ends]

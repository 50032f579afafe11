"""The tokenizer of a model folder, with a chat template and the prompt format of a model and its adapter."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thunder.errors import ModelError
from thunder.lora import adapter_files, base_model
from thunder.lora.prompts.prompt_format import PromptFormat
from thunder.lora.prompts.prompt_words import PromptWords
from thunder.text.chat import GEMMA3_TEMPLATE, GEMMA_TEMPLATE

FORMS = (("<|turn>", GEMMA_TEMPLATE), ("<start_of_turn>", GEMMA3_TEMPLATE))
"""(token that opens a turn, chat template that uses it)."""


def load_prompt_format(
    folder: Path, adapter: Path | None = None, template_kwargs: Mapping[str, Any] | None = None
) -> PromptFormat:
    """The prompt format of a base model, as an adapter was trained with it where one is given.

    template_kwargs: switches of the chat template for a model without an adapter; default: no thinking.

    Raises ModelError where the tokenizer, its template or the adapter's files cannot be used.
    """
    recorded = adapter_files.read_prompt_record(adapter) if adapter else None
    template = adapter_files.read_adapter_template(adapter) if adapter and recorded else None
    tokenizer = load_tokenizer(folder, template)
    config = base_model.read_model_config(folder)
    stops = base_model.end_token_ids(folder)
    if adapter is None:
        own = config.get("thunder")  # of a model that `thunder fuse` made
        fused = own.get("prompt") if isinstance(own, dict) else None
        if fused is None:
            return PromptFormat(tokenizer, stops, template_kwargs)
        switches = fused["chat_template_config"] if template_kwargs is None else template_kwargs
        return PromptFormat(tokenizer, stops, switches, PromptWords(fused["instruction"], fused.get("system_prompt")))
    if recorded is None:  # an adapter of an earlier version, or of mlx_lm: the template without switches
        return PromptFormat(tokenizer, stops, {})
    words = PromptWords(recorded["instruction"], recorded.get("system_prompt"))
    return PromptFormat(tokenizer, [*stops, *recorded["stop_ids"]], recorded["chat_template_config"], words)


def load_tokenizer(folder: Path, template: str | None = None) -> Any:
    """The transformers tokenizer of a model folder, from disk only. template: takes the place of the folder's own.

    A base model has no chat template: one whose tokenizer has a Gemma's turn tokens gets that Gemma's template
    (`template_note`). Raises ModelError where the tokenizer is missing or damaged, or no template fits.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # else it says at every start that PyTorch is not there
    from huggingface_hub.errors import StrictDataclassError  # what transformers raises for a config it does not like
    from transformers import AutoTokenizer  # takes a second to import, and `--help` must not wait for it

    description = folder / "tokenizer.json"
    try:
        if description.is_file():  # the library behind raises bare `Exception` on a damaged one
            json.loads(description.read_text(encoding="utf-8"))
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{folder}: its tokenizer cannot be loaded: {cause}", fix="copy the model again") from None
    if template is not None:
        tokenizer.chat_template = template
    if tokenizer.chat_template is None:
        forms = [
            form for turn, form in FORMS if tokenizer.convert_tokens_to_ids(turn) not in (None, tokenizer.unk_token_id)
        ]
        if not forms:
            raise ModelError(
                f"{folder}: its tokenizer has no chat template",
                fix="put the template of its instruction-tuned sibling there as chat_template.jinja",
            )
        tokenizer.chat_template = forms[0]
    return tokenizer


def template_note(prompts: PromptFormat) -> str:
    """The source of the chat template, and the switches that it is given, for the plan."""
    given = {GEMMA_TEMPLATE: "Gemma 4's form", GEMMA3_TEMPLATE: "Gemma 3's form"}
    note = given.get(prompts.chat_template, "the model's own")
    if prompts.template_kwargs:
        note += f" with {json.dumps(prompts.template_kwargs)}"
    return note

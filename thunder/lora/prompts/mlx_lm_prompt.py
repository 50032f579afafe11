"""Prove that a training prompt is what `mlx_lm generate` renders, and leave the model files with which it is.

mlx_lm reads the chat template and the tokens that end an answer from the base's folder. A base without a template, or
one that does not name the end of a turn, gets a folder beside it: links to its files, with the missing ones added.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.corpora.rows.chat_rows import ChatRow
from thunder.errors import ModelError
from thunder.lora import base_model
from thunder.lora.adapter_files import TEMPLATE
from thunder.lora.base_model import GENERATION
from thunder.lora.prompts.prompt_format import PromptFormat

COMPARED_ROWS = 3


def names_its_prompt(base: Path, prompts: PromptFormat) -> bool:
    """Whether a base's own files hold the chat template and all tokens that end an answer."""
    ends = {prompts.tokenizer.eos_token_id, *base_model.end_token_ids(base)}
    return _has_template(base) and prompts.stops <= ends


def _has_template(base: Path) -> bool:
    if (base / TEMPLATE).is_file():
        return True
    try:
        return bool(json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False


def generation_folder(base: Path, prompts: PromptFormat) -> Path:
    """The folder that `mlx_lm generate --model` needs: the base, or one that `make_generation_folder` makes."""
    return base if names_its_prompt(base, prompts) else _linked_folder(base, _added_files(base, prompts))


def make_generation_folder(base: Path, prompts: PromptFormat) -> Path:
    """Make the folder of `generation_folder`: links to the base's files, and files with what it lacks.

    Raises ModelError where the links cannot be made.
    """
    if names_its_prompt(base, prompts):
        return base
    content = _added_files(base, prompts)
    folder = _linked_folder(base, content)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in base.iterdir():
            if path.name not in content:
                with suppress(FileExistsError):  # another rank, or an earlier run, made it
                    (folder / path.name).symlink_to(path.resolve())
        for name, text in content.items():
            digest.write_atomically(folder / name, text)
    except OSError as error:
        raise ModelError(
            f"{base}: it has no chat template or does not name the end of a turn, and {folder} with both cannot be "
            f"made: {error}",
            fix="set XDG_CACHE_HOME to a folder that can be written, or put the template into the model's folder",
        ) from None
    return folder


def _added_files(base: Path, prompts: PromptFormat) -> dict[str, str]:
    """Name -> content of the files that a base lacks."""
    return {
        TEMPLATE: prompts.chat_template,
        GENERATION: json.dumps(base_model.generation_config_with_ends(base, prompts.stops), indent=4),
    }


def _linked_folder(base: Path, content: dict[str, str]) -> Path:
    key = hashlib.sha256(json.dumps([str(base.resolve()), content], sort_keys=True).encode()).hexdigest()[:12]
    return base_model.digest_cache_path().parent / "models" / f"{base.name}-{key}"


def check_generation_prompt(base: Path, prompts: PromptFormat, rows: Sequence[ChatRow]) -> int:
    """Compare training prompts with what `mlx_lm generate` renders; returns the number of rows that were compared.

    Compared are the first rows that ask one question, with or without a system message; `mlx_lm generate` can ask no
    others.

    Raises ModelError that shows both prompts where they differ, and where mlx_lm would not stop at the end of a turn.
    """
    wrapper = _mlx_lm_tokenizer(base, prompts)
    missing = prompts.stops - set(wrapper.eos_token_ids)
    if missing:
        names = ", ".join(map(repr, prompts.tokenizer.convert_ids_to_tokens(sorted(missing))))
        raise ModelError(f"{base}: mlx_lm does not stop an answer at {names}", fix="name it as eos_token_id")
    compared = [row for row in rows if _can_be_asked(prompts, row)][:COMPARED_ROWS]
    for row in compared:
        text = wrapper.apply_chat_template(
            [dict(message) for message in row.prompt_messages],
            tokenize=False,
            continue_final_message=False,
            add_generation_prompt=True,
            **prompts.template_kwargs,
        )
        theirs = wrapper.encode(text, add_special_tokens=False)
        ours = prompts.prompt(row.prompt_messages).ids  # as `training_tokens` and the test have it
        if theirs != ours:
            raise ModelError(
                f"{row.source}: the training prompt is not the one that mlx_lm renders for this model:\n"
                f"  training {_end_of_prompt(prompts, ours)}\n  mlx_lm   {_end_of_prompt(prompts, theirs)}",
                fix="--chat-template-config with the switches of this template, or a base with another template",
            )
    return len(compared)


def _mlx_lm_tokenizer(base: Path, prompts: PromptFormat) -> Any:
    """The tokenizer as `mlx_lm generate` has it.

    Where the base's own files were loaded for `prompts`, the loaded tokenizer is wrapped; else the folder is loaded.
    """
    import mlx_lm.utils
    from mlx_lm.tokenizer_utils import TokenizerWrapper

    folder = make_generation_folder(base, prompts)
    ends = base_model.end_token_ids(folder)
    if folder == base and "chat_template_type" not in prompts.tokenizer.init_kwargs:
        return TokenizerWrapper(prompts.tokenizer, eos_token_ids=ends)
    return mlx_lm.utils.load_tokenizer(folder, eos_token_ids=ends)


def _can_be_asked(prompts: PromptFormat, row: ChatRow) -> bool:
    roles = [message["role"] for message in row.prompt_messages]
    asks = roles == ["user"] or (roles == ["system", "user"] and not prompts.folds_system)
    texts = " ".join(str(message["content"]) for message in row.prompt_messages)
    return asks and not row.fields.get("tools") and not prompts.find_control_tokens(texts)


def _end_of_prompt(prompts: PromptFormat, ids: Sequence[int]) -> str:
    return "..." + repr(prompts.tokenizer.decode(ids[-24:]))

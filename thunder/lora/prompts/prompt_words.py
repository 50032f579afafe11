"""The words around a text in the prompts of an adapter's training rows, with which it has to be asked again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thunder.corpora.rows.chat_rows import ChatRow
from thunder.text.chat import CORRECTION_INSTRUCTION
from thunder.text.normalize import normalize_text


@dataclass(frozen=True)
class PromptWords:
    """instruction: text before the text of a row, with its line end. system: the system message, if there is one."""

    instruction: str = f"{CORRECTION_INSTRUCTION}\n"
    system: str | None = None

    def messages(self, text: str) -> tuple[dict[str, Any], ...]:
        """The messages that ask about a text, in NFC."""
        system = ({"role": "system", "content": self.system},) if self.system else ()
        return (*system, {"role": "user", "content": f"{self.instruction}{normalize_text(text)}"})


def words_of_rows(rows: Sequence[ChatRow]) -> PromptWords:
    """The lines with which all questions begin, and the system message that all rows have.

    Rows whose questions have no line in common are asked with their text alone. One question alone tells nothing: then
    the words are those of a correction.
    """
    questions = {_last_question(row) for row in rows}
    if len(questions) < 2:
        return PromptWords()
    common = os.path.commonprefix(sorted(questions))
    systems = {row.messages[0]["content"] if row.messages[0]["role"] == "system" else None for row in rows}
    return PromptWords(common[: common.rfind("\n") + 1], systems.pop() if len(systems) == 1 else None)


def _last_question(row: ChatRow) -> str:
    return next(str(message["content"]) for message in reversed(row.prompt_messages) if message["role"] == "user")

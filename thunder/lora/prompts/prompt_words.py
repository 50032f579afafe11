"""The words around a text in the prompts of an adapter's training rows, with which it has to be asked again."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thunder.corpora.rows.chat_rows import ChatRow
from thunder.text.chat import CORRECTION_INSTRUCTION
from thunder.text.normalize import normalize_text

_NEARLY_ALL, _MANY = 0.9, 20


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
    """The words with which nearly all questions begin, and the system message that all rows have.

    The words end with a line, or with a space where many rows agree. Rows whose questions have nothing in common are
    asked with their text alone. One question alone tells nothing: then the words are those of a correction.
    """
    questions = sorted({_last_question(row) for row in rows})
    if len(questions) < 2:
        return PromptWords()
    firsts = Counter(question.partition("\n")[0] for question in questions if "\n" in question)
    line, count = firsts.most_common(1)[0] if firsts else ("", 0)
    if count >= _NEARLY_ALL * len(questions):
        questions = [question for question in questions if question.startswith(f"{line}\n")]
    common = os.path.commonprefix(questions)
    end = common.rfind("\n") + 1
    if not end and len(questions) >= _MANY:
        end = common.rfind(" ") + 1
    systems = {row.messages[0]["content"] if row.messages[0]["role"] == "system" else None for row in rows}
    return PromptWords(common[:end], systems.pop() if len(systems) == 1 else None)


def _last_question(row: ChatRow) -> str:
    return next(str(message["content"]) for message in reversed(row.prompt_messages) if message["role"] == "user")

"""The words of training prompts, and the prompts that are made with them from a text alone."""

from __future__ import annotations

from thunder.corpora.rows.chat_rows import ChatRow
from thunder.lora.prompts.prompt_words import PromptWords, words_of_rows
from thunder.text.chat import correction_messages


def row(question, system=None):
    first = [{"role": "system", "content": system}] if system else []
    messages = [*first, {"role": "user", "content": question}, {"role": "assistant", "content": "x"}]
    return ChatRow(tuple(messages), "f:1", "1")


def test_corrections_have_the_default_words():
    rows = [ChatRow(tuple(correction_messages(text, text)), "f:1", "1") for text in ("ߊߓ", "ߊߞ")]
    assert words_of_rows(rows) == words_of_rows(rows[:1]) == PromptWords()
    assert PromptWords().messages("ߊߓ") == tuple(correction_messages("ߊߓ", ""))[:1]


def test_other_words_and_a_system_message_are_found():
    rows = [row("Repair this.\nLine by line:\nab", "Be brief."), row("Repair this.\nLine by line:\nac", "Be brief.")]
    words = words_of_rows(rows)
    assert words == PromptWords("Repair this.\nLine by line:\n", "Be brief.")
    assert [message["content"] for message in words.messages("z")] == ["Be brief.", "Repair this.\nLine by line:\nz"]


def test_texts_that_begin_alike_are_no_words():
    assert words_of_rows([row("abc"), row("abd")]) == PromptWords("", None)
    assert words_of_rows([row("a\nb", "s"), row("a\nc")]).system is None


def test_one_odd_row_and_words_without_a_line_end():
    rows = [row(f"Repair:\n{number}") for number in range(100)]
    assert words_of_rows([*rows, row("x")]) == PromptWords("Repair:\n")
    assert words_of_rows([row(f"Correct this: {letter}") for letter in "abcdefghijklmnopqrstuvwxyz"]) == PromptWords(
        "Correct this: "
    )

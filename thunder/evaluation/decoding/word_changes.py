"""The word changes between a text and an answer, so that each can be applied or left out by itself."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from thunder.text.distance import align_texts

_WORD = re.compile(r"\S+")


class WordChange(NamedTuple):
    """The words [start, end) of a text, counted from 0, become `words`; either side may be empty."""

    start: int
    end: int
    words: tuple[str, ...]


def find_changes(text: str, answer: str) -> list[WordChange]:
    """The changes from a text to an answer, in the order of the text, with unchanged words between them.

    White space is not compared.
    """
    changes: list[WordChange] = []
    for operation in align_texts(answer, text, unit="word"):
        if operation.kind == "equal":
            continue
        start, new = operation.position, (operation.hypothesis,) if operation.hypothesis else ()
        end = start + (operation.kind != "insertion")
        if changes and changes[-1].end == start:
            changes[-1] = WordChange(changes[-1].start, end, changes[-1].words + new)
        else:
            changes.append(WordChange(start, end, new))
    return changes


def apply_changes(text: str, changes: Sequence[WordChange], chosen: Collection[int]) -> str:
    """The text with the chosen changes, which are given by their indices in the list; other space stays unchanged."""
    spans = [match.span() for match in _WORD.finditer(text)]
    for number in sorted(chosen, reverse=True):  # from the end, so that earlier positions stay valid
        start, end, words = changes[number]
        new = " ".join(words)
        if start < end and new:
            text = text[: spans[start][0]] + new + text[spans[end - 1][1] :]
        elif start < end:  # remove the words and the gap before them, or after them where they are first
            here = spans[start - 1][1] if start else spans[start][0]
            there = spans[end - 1][1] if start or end == len(spans) else spans[end][0]
            text = text[:here] + text[there:]
        elif start < len(spans):
            text = f"{text[: spans[start][0]]}{new} {text[spans[start][0] :]}"
        else:
            here = spans[-1][1] if spans else 0
            text = f"{text[:here]}{' ' if spans else ''}{new}{text[here:]}"
    return text

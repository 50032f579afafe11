"""What an answer changes in a text, change by change, so that a good one can be had without the bad one beside it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from thunder.text.distance import align_texts

_WORD = re.compile(r"\S+")


class WordChange(NamedTuple):
    """Words from `start` up to `end` of a text, counted from 0, become `words`; either side may be empty."""

    start: int
    end: int
    words: tuple[str, ...]


def find_changes(text: str, answer: str) -> list[WordChange]:
    """The changes that lead from a text to an answer, in the text's order, each with unchanged words around it.

    White space is not compared.
    """
    found: list[WordChange] = []
    for operation in align_texts(answer, text, unit="word"):
        if operation.kind == "equal":
            continue
        start, new = operation.position, (operation.hypothesis,) if operation.hypothesis else ()
        end = start + (operation.kind != "insertion")
        if found and found[-1].end == start:
            found[-1] = WordChange(found[-1].start, end, found[-1].words + new)
        else:
            found.append(WordChange(start, end, new))
    return found


def apply_changes(text: str, changes: Sequence[WordChange], taken: Collection[int]) -> str:
    """The text with those of its changes that are taken, by their places in the list; the rest is left to the space."""
    spans = [match.span() for match in _WORD.finditer(text)]
    for number in sorted(taken, reverse=True):  # from the end, so that places before stay true
        start, end, words = changes[number]
        new = " ".join(words)
        if start < end and new:
            text = text[: spans[start][0]] + new + text[spans[end - 1][1] :]
        elif start < end:  # words go, and the gap before them, or after them where they are the first
            here = spans[start - 1][1] if start else spans[start][0]
            there = spans[end - 1][1] if start or end == len(spans) else spans[end][0]
            text = text[:here] + text[there:]
        elif start < len(spans):
            text = f"{text[: spans[start][0]]}{new} {text[spans[start][0] :]}"
        else:
            here = spans[-1][1] if spans else 0
            text = f"{text[:here]}{' ' if spans else ''}{new}{text[here:]}"
    return text

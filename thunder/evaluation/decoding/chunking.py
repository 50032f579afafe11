"""Split long texts into chunks of words, for models that were trained on short texts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from thunder.evaluation.cases import Case
from thunder.text.normalize import normalize_text

_WORD = re.compile(r"\S+")


def split_words(text: str, words: int) -> tuple[list[str], list[str]]:
    """A text as chunks of at most `words` words, and the gaps around them: one more gap than chunks.

    `join_chunks` of both is the text again. words: 0 leaves the text whole; a short text stays whole too.
    """
    spans = [match.span() for match in _WORD.finditer(text)]
    if not words or len(spans) <= words:
        return [text], ["", ""]
    groups = [spans[start : start + words] for start in range(0, len(spans), words)]
    starts, ends = [group[0][0] for group in groups], [group[-1][1] for group in groups]
    pieces = [text[start:end] for start, end in zip(starts, ends, strict=True)]
    gaps = [text[end:start] for end, start in zip([0, *ends], [*starts, len(text)], strict=True)]
    return pieces, gaps


def join_chunks(pieces: Sequence[str], gaps: Sequence[str]) -> str:
    """Pieces with the gaps around them as one text."""
    return gaps[0] + "".join(piece + gap for piece, gap in zip(pieces, gaps[1:], strict=True))


def chunk_prompts(case: Case, words: int) -> tuple[list[list[dict]], list[str], list[str]]:
    """The chat messages that ask for each piece, the pieces, and the gaps around them.

    A prompt that does not hold the recognized text word for word cannot be asked in pieces: it is asked whole.
    """
    pieces, gaps = split_words(normalize_text(case.input), words)
    question = case.messages[-1]["content"]
    if len(pieces) > 1 and question.count(text := normalize_text(case.input)) == 1:
        asked = [[*case.messages[:-1], {"role": "user", "content": question.replace(text, piece)}] for piece in pieces]
        return asked, pieces, gaps
    return [list(case.messages)], [case.input], ["", ""]

"""Cut long corrections into short ones, where both texts can be cut at the same place."""

from __future__ import annotations

import hashlib

from thunder.corpora.rows.chat_rows import ChatRow
from thunder.text.distance import align_texts
from thunder.text.normalize import normalize_text

# A piece without a good place for a cut grows to this many times its length, and is then cut anyway.
PATIENCE = 2


def cut_row(asr_text: str, reference: str, words: int, first: int = 0) -> list[tuple[str, str]]:
    """Return (recognized, reference) pieces of about `words` words, cut after a word that occurs in both texts.

    first: words of the first piece, so that texts with one beginning are not all cut alike; 0: as the others.
    The pieces' words, in order, are those of both texts; white space between words becomes one space.
    """
    assert words > 0
    pieces: list[tuple[str, str]] = []
    heard: list[str] = []
    wanted: list[str] = []
    limit = first or words
    for operation in align_texts(asr_text, reference, unit="word"):
        heard += [operation.hypothesis] if operation.hypothesis else []
        wanted += [operation.reference] if operation.reference else []
        anchored = operation.kind == "equal" and len(heard) >= limit
        if anchored or (len(heard) >= PATIENCE * words and operation.kind == "substitution"):
            pieces.append((" ".join(heard), " ".join(wanted)))
            heard, wanted, limit = [], [], words
    if heard or wanted:
        rest = (" ".join(heard), " ".join(wanted))
        if pieces and not (rest[0] and rest[1]):  # a piece needs a question and an answer
            before = pieces.pop()
            rest = (f"{before[0]} {rest[0]}".strip(), f"{before[1]} {rest[1]}".strip())
        pieces.append(rest)
    return pieces


def pieces_of_row(row: ChatRow, words: int) -> list[ChatRow]:
    """Return a correction as several rows; a row of another kind, or whose prompt alters its text, stays whole."""
    asr_text = normalize_text(row.asr_text)
    question = row.messages[-2]["content"] if len(row.messages) > 1 else ""
    if not row.is_correction or question.count(row.asr_text) != 1 or len(asr_text.split()) <= words:
        return [row]
    chosen = int.from_bytes(hashlib.sha256(row.reference.encode()).digest()[:4]) % words
    pieces = []
    for number, (heard, wanted) in enumerate(cut_row(asr_text, normalize_text(row.reference), words, first=chosen + 1)):
        question_message = {**row.messages[-2], "content": question.replace(row.asr_text, heard)}
        messages = (*row.messages[:-2], question_message, {**row.messages[-1], "content": wanted})
        pieces.append(
            ChatRow(messages, f"{row.source}#{number}", f"{row.row_id}#{number}", row.fields | {"asr_text": heard})
        )
    return pieces

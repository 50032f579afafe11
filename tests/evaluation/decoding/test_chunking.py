"""Long texts in pieces: nothing is lost, and the model is asked for each piece."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.corpora.rows.chat_rows import ChatRow
from thunder.evaluation import cases
from thunder.evaluation.decoding import chunking
from thunder.text.chat import correction_messages


@settings(max_examples=60)
@given(st.text("ab \n\tߊ߫", max_size=60), st.integers(0, 5))
def test_pieces_and_gaps_are_the_text_again(text, words):
    pieces, gaps = chunking.split_words(text, words)
    assert chunking.join_chunks(pieces, gaps) == text
    assert len(gaps) == len(pieces) + 1
    if words and len(text.split()) > words:
        assert all(0 < len(piece.split()) <= words and piece == piece.strip() for piece in pieces)
        assert not "".join(gaps).strip()
    else:
        assert pieces == [text]


def case(question="ߊ ߋ ߌ ߍ ߎ", reference="ߊ"):
    return cases.case_from_row(ChatRow(tuple(correction_messages(question, reference)), "f:1", "one"), 0)


def test_each_piece_is_asked_for_in_the_words_of_the_whole():
    asked, pieces, gaps = chunking.chunk_prompts(case(), 2)
    assert pieces == ["ߊ ߋ", "ߌ ߍ", "ߎ"] and gaps == ["", " ", " ", ""]
    assert asked == [[correction_messages(piece, "x")[0]] for piece in pieces]


def test_a_prompt_without_the_text_word_for_word_is_asked_whole():
    row = ChatRow(({"role": "user", "content": "say it"}, {"role": "assistant", "content": "b"}), "f:1", "one",
              {"asr_text": "a b c d"})  # fmt: skip
    asked, pieces, gaps = chunking.chunk_prompts(cases.case_from_row(row, 0), 2)
    assert asked == [[{"role": "user", "content": "say it"}]] and pieces == ["a b c d"] and gaps == ["", ""]

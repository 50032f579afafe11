"""Corrections in pieces: no word is lost, moved or made up."""

import json

from hypothesis import given
from hypothesis import strategies as st

from thunder.corpora.rows import chat_rows, row_pieces

WORDS = st.lists(st.sampled_from("a b c d e f g".split()), max_size=30)


@given(WORDS, WORDS, st.integers(1, 6), st.integers(0, 6))
def test_the_words_of_all_pieces_are_those_of_both_texts(heard, wanted, words, first):
    found = row_pieces.cut_row(" ".join(heard), " ".join(wanted), words, first)
    assert " ".join(" ".join(each[0] for each in found).split()) == " ".join(heard)
    assert " ".join(" ".join(each[1] for each in found).split()) == " ".join(wanted)


@given(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=40), st.integers(1, 6))
def test_a_text_without_errors_is_cut_at_every_so_many_words(letters, words):
    text = " ".join(letters)
    found = row_pieces.cut_row(text, text, words)
    assert all(heard == wanted and len(heard.split()) <= words for heard, wanted in found)
    assert [len(heard.split()) for heard, _ in found[:-1]] == [words] * (len(found) - 1)


def test_a_cut_is_made_after_a_word_of_both_texts():
    assert row_pieces.cut_row("a b x d e f", "a b c d e f", 3) == [("a b x d", "a b c d"), ("e f", "e f")]


def test_rows_keep_their_prompt_and_say_where_they_come_from(tmp_path):
    pair = {"id": "r1", "before": "ߊ ߋ ߌ ߍ ߎ", "after": "ߊ ߋ ߌ ߏ ߎ"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(pair, ensure_ascii=False) + "\n", encoding="utf-8")
    (row,) = chat_rows.read_rows(tmp_path / "rows.jsonl").rows
    cut = row_pieces.pieces_of_row(row, 2)
    assert " ".join(piece.asr_text for piece in cut) == pair["before"]
    assert " ".join(piece.reference for piece in cut) == pair["after"]
    assert all(piece.messages[-2]["content"].endswith(piece.asr_text) for piece in cut)
    assert [piece.row_id for piece in cut] == [f"r1#{number}" for number in range(len(cut))]
    assert row_pieces.pieces_of_row(row, 10) == [row]

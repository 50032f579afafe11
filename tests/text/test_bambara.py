"""Latin Bambara in N'Ko letters: each guess of the spelling is reported."""

import pytest

from thunder.text import bambara
from thunder.text.transliterate import to_nko


@pytest.mark.parametrize(
    ("latin", "nko", "reason"),
    [
        ("baara", "ߓߊ߯ߙߊ", bambara.LENGTH),
        ("saba", "ߛߓߊ", bambara.ELISION),
        ("galo", "\u07dc\u07ed\u07ca\u07df\u07cf", bambara.NATIVE_G),
        ("jɛ́", "ߖߍ", bambara.FINAL_HIGH),
        ("tɔ́ɔ", "ߕߐ߮", bambara.FINAL_LONG),
        ("n'a", "ߣߴߊ", bambara.APOSTROPHE),
        ("n\u2019a", "ߣߴߊ", bambara.APOSTROPHE),
        ("nya", "ߢߊ", bambara.NASAL_N),
        ("donna", "ߘߏ߲ߠߊ", bambara.NASAL_N),
        ("bannɛn", "ߓߊ߲ߣߍ߲", bambara.NASAL_N),
        ("musow", "ߡߎߛߏߥ", bambara.PLURAL),
        ("garçon", "\u07dc\u07ed\u07ca\u07d9\u07d1\u07d7\u07cf\u07f2", bambara.NO_LETTER),
    ],
)
def test_every_guess_says_so(latin, nko, reason):
    result = to_nko(f"'{latin}' 12", "lexical")
    assert result.text == f"'{nko}' ߁߂"
    assert reason in {one.reason for one in result.unsure}
    assert {(one.position, one.source) for one in result.unsure} == {(1, latin)}


def reasons(latin, tones):
    return {one.source: one.reason for one in to_nko(latin, tones).unsure if one.reason in GUESSES}


GUESSES = {bambara.LOOK_ALIKE, bambara.OLD_SPELLING, bambara.MAYBE_OLD}


@pytest.mark.parametrize("letter", sorted(bambara.LOOK_ALIKES))
def test_look_alikes_are_read_as_what_is_meant_and_said(letter):
    meant = bambara.LOOK_ALIKES[letter]
    for word in (f"b{letter}", f"{letter}ba", f"ba{letter}ba"):
        result = to_nko(word, "none")
        assert result.text == to_nko(word.replace(letter, meant), "none").text
        assert bambara.LOOK_ALIKE in {one.reason for one in result.unsure if one.source == word}


def test_text_of_another_alphabet_is_left_as_it_is():
    assert to_nko("\u03b5\u03bb\u03bb\u03b7", "none").text == "\u03b5\u03bb\u03bb\u03b7"


def test_the_old_spelling_is_recognized_in_text_without_tones():
    assert to_nko("bè kè yé fò", "none").text == to_nko("bɛ kɛ ye fɔ", "none").text
    assert reasons("bè kè yé fò ka", "none") == dict.fromkeys(("bè", "kè", "yé", "fò"), bambara.OLD_SPELLING)


def test_accents_of_the_old_spelling_are_named_where_they_can_be_tones():
    assert to_nko("bè", "lexical").text == "ߓߋ߬"
    assert reasons("bè kè yé", "lexical") == dict.fromkeys(("bè", "kè", "yé"), bambara.MAYBE_OLD)
    assert reasons("bè kè yé", "full") == {}


@pytest.mark.parametrize("text", ["à bɛ́ kèlé", "bè bɛ", "mùso kè"])
def test_a_text_with_modern_letters_or_other_accents_is_not_in_the_old_spelling(text):
    assert not bambara.is_old_spelling(text)
    assert reasons(text, "none") == reasons(text, "lexical") == {}

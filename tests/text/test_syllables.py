import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunder.text.normalize import normalize_text
from thunder.text.syllables import (
    WORD,
    Letter,
    count_violations,
    is_elided_pair,
    spelling_faults,
    split_letters,
    split_syllables,
)

NKO = st.text(st.characters(min_codepoint=0x07C0, max_codepoint=0x07FF), max_size=12)
A, U, CLOSED_O = "\u07ca", "\u07ce", "\u07cf"


def shape(word: str) -> list[tuple[str, str, bool, str, str]]:
    return [(beat.onset, beat.vowel, beat.nasal, beat.tone, beat.form) for beat in split_syllables(word)]


def test_an_elided_vowel_is_that_of_the_next_syllable_in_its_tone():
    # sàbà
    assert shape("ߛߓߊ߬") == [("ߛ", A, False, "\u07ec", "elided"), ("ߓ", A, False, "\u07ec", "written")]


def test_a_syllable_is_closed_by_nothing_but_the_nasal_dot():
    # bànankú
    assert shape("ߓߊ߬ߣߊ߲߬ߞߎ") == [
        ("ߓ", A, False, "\u07ec", "written"),
        ("ߣ", A, True, "\u07ec", "written"),
        ("ߞ", U, False, "", "written"),
    ]


def test_syllabic_n_dagbasinna_and_apostrophes():
    assert shape("ߒߞߏ") == [("", "\u07d2", False, "", "written"), ("ߞ", CLOSED_O, False, "", "written")]
    assert shape("ߛߑߞߏ") == [("ߛ", "", False, "", "silenced"), ("ߞ", CLOSED_O, False, "", "written")]
    first, second = split_syllables("ߓߴߊ߬")
    assert (first.form, first.apostrophe, second.vowel, second.tone) == ("apostrophe", "\u07f4", A, "\u07ec")


def test_a_high_mark_inside_a_word_says_no_more_than_none():
    assert is_elided_pair(*split_syllables("ߓߊ߫ߟߊ"))


def test_no_vowel_is_put_between_a_consonant_and_itself():
    assert [form for *_, form in shape("ߊߟߟߊ")] == ["written", "bare", "written"]


def test_a_mark_that_makes_another_letter_is_part_of_it():
    assert split_letters("\u07dc\u07ed\u07cb\u07f3\u07ec") == [
        Letter(0, "\u07dc\u07ed"),
        Letter(2, "\u07cb\u07f3", tone="\u07ec"),
    ]


def test_a_foreign_letter_may_be_followed_by_an_elided_vowel():
    assert [beat.onset for beat in split_syllables("\u07dc\u07ed\u07df\u07ca")] == ["\u07dc\u07ed", "\u07df"]


@given(NKO)
def test_no_letter_is_lost_in_any_word(text):
    for word in WORD.findall(text):
        beats = split_syllables(word)
        consonants = [letter.base for letter in split_letters(word) if letter.is_consonant]
        assert [beat.onset for beat in beats if beat.onset] == consonants
        vowels = [letter.base for letter in split_letters(word) if letter.is_vowel or letter.base == "\u07d2"]
        assert [beat.vowel for beat in beats if beat.form == "written"] == vowels
        assert [beat.start for beat in beats] == sorted(beat.start for beat in beats)
        assert sum(1 + len(letter.stray) for letter in split_letters(word)) <= len(word)
        spelling_faults(word)


@pytest.mark.parametrize(
    ("word", "elided"),
    [
        ("ߓߊߟߊ", True),
        ("ߓߊ߬ߟߊ߬", True),
        ("ߓߊߟߊ߫", True),  # high inside is unmarked, high at the end marked: one tone
        ("ߓߊ߬ߟߊ", False),  # two tones
        ("ߓߊ߭ߟߊ߭", False),
        ("ߝߊߝߊ", False),  # one consonant
        ("ߓߊߟߎ", False),  # two vowels
        ("ߓߊ߲ߟߊ", False),
        ("ߓߊߟߊ߲", False),
        ("ߓߊߟߊ߯", False),
        ("ߓߊߟߊ߭", False),
        ("ߊߟߊ", False),
    ],
)
def test_when_a_vowel_is_elided(word, elided):
    assert is_elided_pair(*split_syllables(word)) == elided
    assert bool(spelling_faults(word)) == elided


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("ߓߟߊ߲", "vowel elided before another kind"),
        ("ߓߟߊ߯", "vowel elided before another kind"),
        ("ߓߞߟߊ", "three consonants in a row"),
        ("ߞߕ", "consonant without a vowel"),
        ("ߓߊ߫ߟߎ", "short high mark inside a word"),
        ("ߓߊ߫߬", "second tone mark"),
        ("ߓ߬ߊ", "mark out of place"),
        ("ߒ߲", "mark out of place"),
        ("ߓߊߠߎ", "woloso after no nasal"),
        ("ߓߊߧߎ", "woloso after no nasal"),
        ("ߊߴߎ", "no consonant before it"),
        ("ߊߑߎ", "no consonant before it"),
        ("\u07ebߊ", "mark without a letter"),
    ],
)
def test_each_broken_rule_is_named(word, kind):
    assert [fault.kind for fault in spelling_faults(word)] == [kind]


@pytest.mark.parametrize("word", ["ߓߊ߲߬ߠߊ", "ߒߠߊ", "ߠߊ߫", "ߔߊߙߌߛ", "ߦߎߣߍߛߑߞߏ", "ߜ߭ߌߛ߭", "ߓߊ߲ߧߊ", ""])
def test_right_words_have_no_fault(word):
    assert spelling_faults(word) == []


@pytest.mark.parametrize("text, count", [
    ("", 0), ("abc 12", 0), ("ߡߎ߬ߛߏ ߟߎ߬", 0), ("ߒߞߏ ߛߑߞߏ ߓߴߊ߬", 0), ("ߛߓߊ߬ ߝߊߝߊ", 0), ("ߊߟߟߊ", 1), ("ߡ ߟ", 0),
    ("ߓߊ߬߬", 1), ("ߓߊ߲߲", 1), ("ߊߴߊ", 1), ("ߓߊ߫ߟߊ", 1), ("ߛߏߞߙߊߕ", 0),
    ("ߓߊߟߊ", 0), ("ߓߊߧߊ", 0),  # conventions: an elision that is not written, a nya woloso after no nasal
    ("ߓߡߟߏ", 1), ("ߓߟߏ߲", 1),  # two vowels in a row, or that before a nasal one, cannot be elided
])  # fmt: skip
def test_what_makes_no_syllable(text, count):
    assert count_violations(text) == count


@given(st.lists(NKO, max_size=4))
def test_violations_are_those_of_the_words(words):
    found = [fault for text in words for word in WORD.findall(normalize_text(text)) for fault in spelling_faults(word)]
    assert count_violations(" ".join(words)) <= len(found)
    assert count_violations(" ".join(words)) == sum(map(count_violations, words))

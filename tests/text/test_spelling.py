import itertools

import pytest
from conftest import TEST_DATA
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thunder.text.alphabet import BLOCK, LAJANYALAN, MARKS
from thunder.text.normalize import normalize_text
from thunder.text.spelling import FORBIDDEN_FAULTS, START_STATE, advance_state, is_valid_spelling, may_end_word
from thunder.text.syllables import WORD, spelling_faults

B, L, J, NA, A, OTHER_VOWEL, NASAL, LOW, RISING, LONG = "ߓߟߖߠߊߌ\u07f2\u07ec\u07ed\u07ef"
# one of each kind that a rule speaks of
KINDS = B + L + J + NA + A + NASAL + LOW + RISING + LONG + "\u07f3\u07fdߑߒߴ"
LETTERS_AND_MARKS = [character for character in BLOCK if WORD.fullmatch("ߊ" + character)]


def keeps_the_rules(word: str) -> bool:
    """By the finder of faults, which looks at whole words and knows nothing of beginnings."""
    return word == normalize_text(word) and not {fault.kind for fault in spelling_faults(word)} & set(FORBIDDEN_FAULTS)


def lives(word: str) -> bool:
    place = START_STATE
    for character in word:
        if (place := advance_state(place, character)) is None:
            return False
    return True


@pytest.mark.expensive
def test_it_accepts_what_the_finder_of_faults_has_no_fault_with_for_every_short_word():
    words = ["".join(word) for length in range(5) for word in itertools.product(KINDS, repeat=length)]
    assert [word for word in words if is_valid_spelling(word) != keeps_the_rules(word)] == []
    assert 1000 < sum(map(is_valid_spelling, words)) < len(words) / 4


# like syllables, so that many are right and the others wrong late
SYLLABLES = st.lists(
    st.tuples(
        st.sampled_from(B + L + J + NA), st.sampled_from(["", A, A + A, OTHER_VOWEL]), st.sampled_from(["", *MARKS])
    )
)


@pytest.mark.expensive
@given(
    st.text(st.sampled_from(LETTERS_AND_MARKS), max_size=10) | SYLLABLES.map(lambda all_: "".join(map("".join, all_)))
)
@example("ߓߔߊߊ\u07ed")  # the second vowel has no elided one before it
@settings(max_examples=400)
def test_it_accepts_what_the_finder_has_no_fault_with_for_long_words(word):
    assert is_valid_spelling(word) == keeps_the_rules(word)


def test_a_beginning_lives_if_and_only_if_some_continuation_is_accepted():
    endings = ["", A, OTHER_VOWEL, RISING, RISING + A, NASAL]
    for length in range(4):
        for letters in itertools.product(KINDS, repeat=length):
            word = "".join(letters)
            assert lives(word) == any(keeps_the_rules(word + ending) for ending in endings), word


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("ߓߟߊ ߓߊ", True),
        ("ߓߟ ߓߊ", False),  # a word may not end between a consonant and the vowel it waits for
        ("ߔߊߙߌߛ", True),
        (f" {LOW}", False),
        ("߁߭ ߂߲ ߁߂", True),  # ordinals
        ("߁߬", False),
        ("߁߭߭", False),
        (f"ߓ{LAJANYALAN}ߊ", False),
        ("ߓߊ߫߸ ߓߊ߹", True),
        (f"ߓߊ{LOW}{NASAL}", False),  # tone before dot is not NFC
        (f"ߓߊ{NASAL}{LOW}", True),
        (f"{NA}ߊ", True),  # its nasal is in the word before
        (f"ߓߊ ߓ{NA}ߊ", False),
    ],
)
def test_texts_of_several_words_numbers_and_signs(text, right):
    assert is_valid_spelling(text) == right


def test_space_is_possible_where_a_word_may_end():
    place = advance_state(START_STATE, B)
    assert may_end_word(place) and advance_state(place, " ") == START_STATE
    place = advance_state(place, L)
    assert not may_end_word(place) and advance_state(place, " ") is None


def test_marks_begin_no_text():
    assert not any(advance_state(START_STATE, mark) for mark in MARKS)


def test_nearly_every_word_of_real_text_is_accepted():
    lines = (TEST_DATA / "text" / "nllb_seed_nqo.tsv").read_text(encoding="utf-8").splitlines()[1:]
    words = [word for line in lines for word in WORD.findall(normalize_text(line.split("\t")[2]))]
    assert len(words) > 20000
    assert sum(map(is_valid_spelling, words)) / len(words) > 0.98

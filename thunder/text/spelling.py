"""A state machine of N'Ko spelling: which character can follow a prefix so that no rule that all writers keep is
broken.

The rules are those of `syllables.spelling_faults` but for two: writers differ in whether they elide a vowel, and in the
short high mark inside a word. A prefix is valid if some continuation of it is; marks are in NFC order.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from thunder.text.alphabet import (
    ABBREVIATION,
    CONSONANTS,
    DIGITS,
    DOTS,
    FOREIGN,
    LAJANYALAN,
    LONG_TONES,
    MARKS,
    NA_WOLOSO,
    NASAL,
    NO_VOWEL,
    NYA_WOLOSO,
    SHORT_RISING,
    SYLLABIC_N,
    TONES,
    VOWELS,
)
from thunder.text.syllables import APOSTROPHES

# kinds of `syllables.spelling_faults` that generated text must not have
FORBIDDEN_FAULTS = (
    "mark without a letter",
    "mark out of place",
    "second tone mark",
    "no consonant before it",
    "woloso after no nasal",
    "consonant without a vowel",
    "three consonants in a row",
    "vowel elided before another kind",
)
WOLOSO = (NA_WOLOSO, NYA_WOLOSO)
_CAN_BE_FOREIGN = {letter[0] for letter in FOREIGN}
# NFC puts marks below a letter before those above it
_BELOW = NASAL + ABBREVIATION
_NEVER_ELIDED_BEFORE = NASAL + SHORT_RISING + LONG_TONES


class SpellingState(NamedTuple):
    """What the end of a prefix implies for the next character.

    last: the kind of the last letter; silent: dagbasinna or an apostrophe. base: of a consonant, with its foreign mark.
    elided: of a consonant, the consonant before it, whose vowel is not written; of a vowel, whether there is one.
    marks: the last letter's marks, in order, each once.
    """

    last: Literal["outside", "digit", "consonant", "vowel", "syllabic", "silent"]
    base: str = ""
    elided: str = ""
    marks: str = ""


START_STATE = SpellingState("outside")


def advance_state(place: SpellingState, character: str) -> SpellingState | None:
    """Return the state after one more character; None if the character may not follow."""
    if character in MARKS:
        return _marked(place, character)
    if character in CONSONANTS:
        return _consonant(place, character)
    if character in VOWELS:
        if _is_pair_of_one(place):
            return None
        return SpellingState("vowel", elided="yes" if place.last == "consonant" and place.elided else "")
    if character == SYLLABIC_N:
        return None if place.last == "consonant" else SpellingState("syllabic")
    if character == NO_VOWEL or character in APOSTROPHES:
        return SpellingState("silent") if place.last == "consonant" and not place.elided else None
    if character == LAJANYALAN or not may_end_word(place):
        return None
    return SpellingState("digit") if character in DIGITS else START_STATE


def may_end_word(place: SpellingState) -> bool:
    """Whether a word may end here: not between a consonant without a vowel and the vowel that must follow."""
    return place.last != "consonant" or not place.elided


def is_valid_spelling(text: str) -> bool:
    """Whether a whole text keeps the rules."""
    place: SpellingState | None = START_STATE
    for character in text:
        if (place := advance_state(place, character)) is None:
            return False
    return may_end_word(place)


def _is_pair_of_one(place: SpellingState) -> bool:
    """Whether the last two letters are the same consonant; gbàralí never elides the vowel between those."""
    return place.last == "consonant" and place.elided == place.base


def _consonant(place: SpellingState, letter: str) -> SpellingState | None:
    if place.last != "consonant":
        nasal = NASAL in place.marks if place.last == "vowel" else place.last != "silent"
        return SpellingState("consonant", letter) if nasal or letter not in WOLOSO else None
    # the same letter can still become a foreign one by its mark
    unlike = letter != place.base or letter in _CAN_BE_FOREIGN
    return (
        SpellingState("consonant", letter, place.base) if unlike and not place.elided and letter not in WOLOSO else None
    )


def _marked(place: SpellingState, mark: str) -> SpellingState | None:
    first = not place.marks
    if place.last == "consonant" and first and place.base + mark in FOREIGN:
        marked = place._replace(base=place.base + mark, marks=mark)
        return None if _is_pair_of_one(marked) else marked
    if place.last == "vowel":
        return _vowel_marked(place, mark)
    if place.last == "syllabic" and first and mark in TONES:
        return place._replace(marks=mark)
    if place.last == "digit" and first and mark in (SHORT_RISING, NASAL):
        return place._replace(marks=mark)
    abbreviates = mark == ABBREVIATION and place.marks in ("", ABBREVIATION)
    unfit = place.last in ("outside", "digit") or _is_pair_of_one(place)
    return place._replace(marks=mark) if abbreviates and not unfit else None


def _vowel_marked(place: SpellingState, mark: str) -> SpellingState | None:
    """A vowel takes one nasal dot, one tone, one pair of dots, and abbreviation marks."""
    if place.elided and mark in _NEVER_ELIDED_BEFORE:
        return None
    if mark in _BELOW and place.marks.strip(_BELOW):
        return None
    if mark == ABBREVIATION:
        return place if mark in place.marks else place._replace(marks=place.marks + mark)
    again = mark in place.marks or (mark in TONES and any(one in TONES for one in place.marks))
    return None if again or mark not in (NASAL, DOTS, *TONES) else place._replace(marks=place.marks + mark)

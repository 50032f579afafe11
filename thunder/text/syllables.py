"""Split N'Ko words into syllables, including those with an elided vowel, and find violations of the spelling rules.

The rules: a syllable is a vowel with or without a consonant before it, or a syllabic n; only the nasal dot closes it.
In C1 V C2 V with one short oral vowel in one tone and two different consonants the first vowel is not written
(gbàralí): U+07D3 U+07DF U+07CF is bolo. A consonant without a vowel, in loanwords, is marked by dagbasinna, U+07D1.
Sources: r12a's notes on N'Ko orthography, the ALA-LC table; elision holds in 95 % of the pairs of one corpus and 97 %
of another, and practically never before a nasal, a long or a rising vowel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from thunder.text.alphabet import (
    ABBREVIATION,
    CONSONANTS,
    DOTS,
    ELIDED_HIGH,
    ELIDED_LOW,
    FOREIGN,
    LONG_TONES,
    MARKS,
    NA_WOLOSO,
    NASAL,
    NO_VOWEL,
    NYA_WOLOSO,
    SHORT_HIGH,
    SHORT_RISING,
    SYLLABIC_N,
    TONES,
    VOWELS,
)
from thunder.text.normalize import TextFault, normalize_text

APOSTROPHES = ELIDED_HIGH + ELIDED_LOW
_LETTERS = "".join([*VOWELS, NO_VOWEL, SYLLABIC_N, *CONSONANTS])
WORD = re.compile(f"[{_LETTERS}][{_LETTERS}{MARKS}{APOSTROPHES}]*")
_LETTER = re.compile(f"([{_LETTERS}{APOSTROPHES}])([{MARKS}]*)")

# faults that do not change any syllable: two thirds of the faults in texts that people corrected
CONVENTIONS = {"vowel written that is elided", "woloso after no nasal"}

# written: its vowel is; elided: gbàralí; silenced: by dagbasinna; apostrophe: the next word's vowel has taken its
# place; bare: a consonant at the end of a word, or before itself
SyllableForm = Literal["written", "elided", "silenced", "apostrophe", "bare"]


@dataclass(frozen=True, slots=True)
class Letter:
    """A base character with its marks, sorted by function.

    start: code point of the word (NFC). base: with the mark that makes it a foreign letter. tone: the first tone mark.
    stray: marks that cannot stand there.
    """

    start: int
    base: str
    nasal: bool = False
    tone: str = ""
    stray: str = ""

    @property
    def is_vowel(self) -> bool:
        return self.base[0] in VOWELS

    @property
    def is_consonant(self) -> bool:
        return self.base[0] in CONSONANTS


@dataclass(frozen=True, slots=True)
class Syllable:
    """One syllable of a word; a consonant without a vowel counts as one.

    start: code point of the word (NFC). onset: a consonant with its foreign mark, or empty. vowel: as written or, if
    elided, as restored; syllabic n counts as a vowel; empty for a consonant alone. tone: the mark, empty for none; an
    elided vowel has the tone of the vowel after it. form: how the vowel is written.
    """

    start: int
    onset: str
    vowel: str
    nasal: bool = False
    tone: str = ""
    form: SyllableForm = "written"
    apostrophe: str = ""

    @property
    def is_long(self) -> bool:
        return self.tone != "" and self.tone in LONG_TONES

    @property
    def ends_nasal(self) -> bool:
        return self.nasal or self.vowel == SYLLABIC_N


def split_letters(word: str) -> list[Letter]:
    """Return the letters of a N'Ko word; other characters are skipped."""
    return [_letter(match) for match in _LETTER.finditer(normalize_text(word))]


def _letter(match: re.Match[str]) -> Letter:
    base, marks = match[1], match[2]
    if not marks:
        return Letter(match.start(), base)
    if base in CONSONANTS:
        foreign = marks[0] if base + marks[0] in FOREIGN else ""
        return Letter(match.start(), base + foreign, stray=marks.removeprefix(foreign))
    if base in VOWELS:
        dots = DOTS if DOTS in marks else ""
        tone = next((mark for mark in marks if mark in TONES), "")
        taken = {NASAL, dots, tone}
        again = "".join(mark for at, mark in enumerate(marks) if mark not in taken or mark in marks[:at])
        return Letter(match.start(), base + dots, NASAL in marks, tone, again)
    if base == SYLLABIC_N and marks[0] in TONES:
        return Letter(match.start(), base, tone=marks[0], stray=marks[1:])
    return Letter(match.start(), base, stray=marks)


def split_syllables(word: str) -> list[Syllable]:
    """The syllables of a N'Ko word in order, with elided vowels put back."""
    return list(_iter_syllables(split_letters(word)))


def _iter_syllables(row: list[Letter]) -> Iterator[Syllable]:
    for at, letter in enumerate(row):
        before = row[at - 1] if at else None
        if letter.is_consonant:
            yield from _consonant_syllable(row, at)
        elif letter.is_vowel or letter.base == SYLLABIC_N:
            # a consonant takes the vowel after it, never the syllabic n
            if letter.base == SYLLABIC_N or before is None or not before.is_consonant:
                yield Syllable(letter.start, "", letter.base, letter.nasal, letter.tone)
        elif before is None or not before.is_consonant:
            # dagbasinna or an apostrophe after no consonant: nothing is said
            continue


def _consonant_syllable(row: list[Letter], at: int) -> Iterator[Syllable]:
    """Yield the syllable that a consonant begins."""
    letter = row[at]
    after = row[at + 1] if at + 1 < len(row) else None
    if after is None:
        yield Syllable(letter.start, letter.base, "", form="bare")
    elif after.is_vowel:
        yield Syllable(letter.start, letter.base, after.base, after.nasal, after.tone)
    elif after.base == NO_VOWEL:
        yield Syllable(letter.start, letter.base, "", form="silenced")
    elif after.base in APOSTROPHES:
        yield Syllable(letter.start, letter.base, "", form="apostrophe", apostrophe=after.base)
    else:
        vowel = _vowel_after(row, at + 1)
        if vowel is None or after.base == letter.base:
            yield Syllable(letter.start, letter.base, "", form="bare")
        else:
            yield Syllable(letter.start, letter.base, vowel.base, tone=vowel.tone, form="elided")


def _vowel_after(row: list[Letter], at: int) -> Letter | None:
    """Return the vowel after a run of consonants, if there is one."""
    while at < len(row) and row[at].is_consonant:
        at += 1
    return row[at] if at < len(row) and row[at].is_vowel else None


def spelling_faults(word: str) -> list[TextFault]:
    """Return violations of the rules above in a N'Ko word (NFC), in word order.

    A loan or an abbreviation can break the rules on purpose, and writers differ in na woloso and nya woloso: a fault is
    a hint, not proof of an error.
    """
    word = normalize_text(word)
    row = split_letters(word)
    faults = [TextFault("mark without a letter", 0, word[0])] if word[:1] in MARKS and word else []
    for letter in row:
        if letter.stray.strip(ABBREVIATION):
            second = letter.tone and letter.stray[0] in TONES
            faults.append(TextFault("second tone mark" if second else "mark out of place", letter.start, letter.stray))
        if letter.tone == SHORT_HIGH and letter.is_vowel and letter is not row[-1]:
            faults.append(TextFault("short high mark inside a word", letter.start, letter.tone))
    for at, letter in enumerate(row):
        after_consonant = at > 0 and row[at - 1].is_consonant
        if letter.base in (NO_VOWEL, *APOSTROPHES) and not after_consonant:
            faults.append(TextFault("no consonant before it", letter.start, letter.base))
    return sorted(faults + _syllable_faults(word), key=lambda fault: fault.position)


def count_violations(text: str) -> int:
    """Count what cannot form a syllable in the N'Ko words of a text.

    Counted are faults that few writers make on purpose: a consonant without its vowel, marks without a vowel, an
    impossible elision. Elision and woloso are the writer's convention and not counted. A consonant at the end of a word
    is not counted either: 2 % of the words of human corrections, names and loans, end so.
    """
    words = WORD.findall(normalize_text(text))
    return sum(fault.kind not in CONVENTIONS for word in words for fault in spelling_faults(word))


def _syllable_faults(word: str) -> list[TextFault]:
    faults = []
    syllables = split_syllables(word)
    for syllable, after in pairwise(syllables):
        if after.onset in (NA_WOLOSO, NYA_WOLOSO) and not syllable.ends_nasal:
            faults.append(TextFault("woloso after no nasal", after.start, after.onset))
        if syllable.form == "bare":
            faults.append(TextFault("consonant without a vowel", syllable.start, syllable.onset))
        elif syllable.form == "elided" and after.form != "written":
            faults.append(TextFault("three consonants in a row", syllable.start, syllable.onset))
        elif syllable.form == "elided" and (after.nasal or after.is_long or after.tone == SHORT_RISING):
            faults.append(TextFault("vowel elided before another kind", syllable.start, syllable.onset))
        elif _should_elide(syllable, after):
            faults.append(TextFault("vowel written that is elided", syllable.start, syllable.onset + syllable.vowel))
    return faults


def _should_elide(syllable: Syllable, after: Syllable) -> bool:
    return syllable.form == "written" == after.form and is_elided_pair(syllable, after)


def is_elided_pair(syllable: Syllable, after: Syllable) -> bool:
    """Whether gbàralí elides the first of two vowels: both short, oral, equal, in one tone, after two consonants.

    A high vowel is unmarked inside a word and marked or unmarked at its end, so both count as one tone here.
    """
    if not (
        syllable.onset
        and after.onset
        and syllable.onset != after.onset
        and syllable.vowel
        and syllable.vowel == after.vowel
    ):
        return False
    if syllable.nasal or after.nasal or syllable.vowel == SYLLABIC_N or syllable.is_long or after.is_long:
        return False
    return syllable.tone.strip(SHORT_HIGH) == after.tone.strip(SHORT_HIGH) != SHORT_RISING

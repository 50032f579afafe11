"""The code points of N'Ko, the Latin letters that stand for them, and the CTC label ids of both alphabets.

Sources: The Unicode Standard, chart U07C0 and chapter 19.4 "N'Ko"; the ALA-LC romanization table; Richard Ishida's
notes on N'Ko orthography (r12a.github.io); and counts over open N'Ko text. The Unicode names of four vowels mislead:
"EE" and "OO" are the closed e and o, "E" and "O" the open ɛ and ɔ.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from thunder.errors import CorpusError

VOWELS = {
    "\u07ca": "a",
    "\u07cb": "e",
    "\u07cc": "i",
    "\u07cd": "ɛ",
    "\u07ce": "u",
    "\u07cf": "o",
    "\u07d0": "ɔ",
}
# the consonant before it has no vowel; used in the consonant clusters of loanwords
NO_VOWEL = "\u07d1"
# a syllable by itself: it takes a tone, never the nasal dot
SYLLABIC_N = "\u07d2"
CONSONANTS = {
    "\u07d3": "b",
    "\u07d4": "p",
    "\u07d5": "t",
    "\u07d6": "j",
    "\u07d7": "c",
    "\u07d8": "d",
    "\u07d9": "r",
    "\u07da": "rr",
    "\u07db": "s",
    "\u07dc": "gb",
    "\u07dd": "f",
    "\u07de": "k",
    "\u07df": "l",
    "\u07e0": "n",  # na woloso: l, heard as n after a nasal
    "\u07e1": "m",
    "\u07e2": "ɲ",
    "\u07e3": "n",
    "\u07e4": "h",
    "\u07e5": "w",
    "\u07e6": "y",
    "\u07e7": "y",  # nya woloso: y, heard as ɲ after a nasal
    "\u07e8": "j",  # archaic, as are the next two
    "\u07e9": "c",
    "\u07ea": "r",
}
NA_WOLOSO, NYA_WOLOSO = "\u07e0", "\u07e7"

# Tone marks; only the long ones write length. Inside a word an unmarked short vowel is high, at its end it falls.
SHORT_HIGH, SHORT_LOW, SHORT_RISING = "\u07eb", "\u07ec", "\u07ed"
LONG_FALLING, LONG_HIGH, LONG_LOW, LONG_RISING = "\u07ee", "\u07ef", "\u07f0", "\u07f1"
LONG_TONES = LONG_FALLING + LONG_HIGH + LONG_LOW + LONG_RISING
TONES = SHORT_HIGH + SHORT_LOW + SHORT_RISING + LONG_TONES
NASAL, DOTS = "\u07f2", "\u07f3"
ABBREVIATION = "\u07fd"
MARKS = TONES + NASAL + DOTS + ABBREVIATION

# foreign sounds: a letter and a mark, which is not a tone here
FOREIGN = {
    "\u07dc\u07ed": "g",
    "\u07d6\u07ed": "z",
    "\u07db\u07ed": "sh",
    "\u07dd\u07ed": "v",
    "\u07d7\u07ed": "zh",
    "\u07de\u07ed": "x",
    "\u07de\u07eb": "q",
    "\u07dc\u07eb": "ɣ",
    "\u07dc\u07f3": "kp",
    "\u07cb\u07f3": "ə",
    "\u07ce\u07f3": "ü",
}

# apostrophes for a vowel elided before the next word's vowel: it was high, or low
ELIDED_HIGH, ELIDED_LOW = "\u07f4", "\u07f5"
LAJANYALAN = "\u07fa"  # stretches a line as the Arabic tatweel does; has no meaning
DIGITS = {chr(0x07C0 + digit): str(digit) for digit in range(10)}
PUNCTUATION = {"\u07f8": ",", "\u060c": ",", "\u07f9": "!", "\u061f": "?", "\u061b": ";"}
UNASSIGNED = "\u07fb\u07fc"
BLOCK = tuple(chr(code) for code in range(0x07C0, 0x0800) if chr(code) not in UNASSIGNED)

# the first is the normal form
LATIN_APOSTROPHES = "'\u2019\u2018\u02bc"
GRAVE, ACUTE, CIRCUMFLEX, TILDE, DIAERESIS, CARON = LATIN_ACCENTS = "\u0300\u0301\u0302\u0303\u0308\u030c"

BLANK = 0


_KINDS = {"M": "mark", "L": "letter", "Z": "space"}


@lru_cache(maxsize=4096)
def character_kind(character: str) -> str:
    """Return the kind of a code point of any script: mark, letter, space or other."""
    return _KINDS.get(unicodedata.category(character)[0], "other")


@dataclass(frozen=True)
class Alphabet:
    """The labels of a CTC model: id 0 is the blank, label i of the list has id i + 1; V = len(labels) + 1.

    form: the normal form in which its characters are single labels. fold: ignore letter case and the shape of
    apostrophes.
    """

    name: str
    labels: tuple[str, ...]
    form: Literal["NFC", "NFD"]
    fold: bool = False

    @property
    def size(self) -> int:
        """V: the number of labels, the blank included."""
        return len(self.labels) + 1

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {label: number for number, label in enumerate(self.labels, start=1)}

    def prepare(self, text: str) -> str:
        """Prepare text for labels: normal form, folded if the alphabet folds, one space for each run of white space."""
        if self.fold:
            text = text.lower()
            for apostrophe in LATIN_APOSTROPHES[1:]:
                text = text.replace(apostrophe, LATIN_APOSTROPHES[0])
        return " ".join(unicodedata.normalize(self.form, text).split())

    def unknown_characters(self, text: str) -> list[str]:
        """Return the characters without a label, each once, in code point order."""
        return sorted(set(self.prepare(text)) - self._ids.keys())

    def encode(self, text: str) -> list[int]:
        """Return the U label ids of a text, without blanks. Raises CorpusError that names every character without a
        label.
        """
        if strangers := self.unknown_characters(text):
            named = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in strangers)
            raise CorpusError(
                f"the {self.name} alphabet has no label for {named} of {text!r}",
                fix="spell the text with the alphabet's letters, or leave the row out",
            )
        return [self._ids[character] for character in self.prepare(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text (NFC) of label ids whose repeats are merged already; blanks are skipped.

        Raises IndexError for an id outside the alphabet.
        """
        ids = list(ids)
        if any(not 0 <= number <= len(self.labels) for number in ids):
            raise IndexError(f"label ids of the {self.name} alphabet are 0 to {len(self.labels)}, got {ids}")
        return unicodedata.normalize("NFC", "".join(self.labels[number - 1] for number in ids if number != BLANK))


NKO = Alphabet("N'Ko", (" ", *BLOCK), "NFC")
LATIN = Alphabet("Latin", (*" '-0123456789abcdefghijklmnopqrstuvwxyzɛɔɲŋəʃʒɣ", *LATIN_ACCENTS), "NFD", fold=True)

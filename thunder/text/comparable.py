"""The form in which texts are compared and counted, and the characters that this form has to deal with."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

import regex

from thunder.text.alphabet import DIGITS
from thunder.text.normalize import normalize_for_scoring, normalize_text

Normalization = Literal["none", "nko"]
# what each normalization does, in order; named in results
RULES: dict[str, tuple[str, ...]] = {
    "none": ("NFC", "outer white space removed"),
    "nko": (
        "NFC",
        "format characters (Cf, such as U+200B) and controls other than white space removed",
        "lajanyalan (U+07FA) removed",
        "each run of white space, tabs, line ends and separators (Z) is one space, none outside",
        "no space before punctuation",
        "in text with N'Ko letters: Arabic and Latin comma -> U+07F8, ! -> U+07F9, Latin ? ; -> U+061F U+061B, other "
        "decimal digits -> N'Ko digits",
    ),
}
_NKO_LETTER = regex.compile(r"[\p{Nko}--[\u07c0-\u07c9\u07f6-\u07f9\u07fe\u07ff]]", regex.V1)
_REMOVED = regex.compile(r"\p{Cf}|[\p{Cc}--\s]", regex.V1)
_PUNCTUATION = str.maketrans({"\u060c": "\u07f8", ",": "\u07f8", "!": "\u07f9", "?": "\u061f", ";": "\u061b"})
_NKO_DIGITS = {value: digit for digit, value in DIGITS.items()}
_FOREIGN_DIGIT = regex.compile(r"[\p{Nd}--[\u07c0-\u07c9]]", regex.V1)
# signs for which N'Ko has its own
_FOREIGN_SIGNS = "\u060c,!"


def comparable_text(text: str, normalize: str = "none") -> str:
    """Return the form of a text in which edits are counted, by the rules of RULES."""
    if normalize == "none":
        return normalize_text(text).strip()
    text = normalize_for_scoring(_REMOVED.sub("", text))
    if not _NKO_LETTER.search(text):
        return text
    text = _FOREIGN_DIGIT.sub(lambda digit: _NKO_DIGITS[str(unicodedata.digit(digit[0]))], text)
    return normalize_for_scoring(text.translate(_PUNCTUATION))


def unusual_characters(texts: Iterable[str]) -> dict[str, int]:
    """Count the characters that look like others or like nothing, by Unicode category, code point and name.

    These are white space other than single inner blanks (Z*, and the tab and the line ends of Cc), format, control,
    private and unassigned characters (C*), and in text with N'Ko letters digits and punctuation of another script for
    which N'Ko has its own.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        of_nko = bool(_NKO_LETTER.search(text))
        for character, times in Counter(text).items():
            if name := _unusual_name(character, of_nko):
                counts[name] += times
        if outer := len(text) - len(text.strip()):
            counts["space at the beginning or end of a text"] += outer
        counts["space repeated"] += text.strip().count("  ")
    return {name: times for name, times in sorted(counts.items()) if times}


@lru_cache(maxsize=1 << 14)
def _unusual_name(character: str, of_nko: bool) -> str:
    """Return category, code point and name of an unusual character, or an empty string."""
    category = unicodedata.category(character)
    unusual = category[0] == "C" or (category[0] == "Z" and character != " ")
    if of_nko:
        unusual |= bool(_FOREIGN_DIGIT.match(character)) or character in _FOREIGN_SIGNS
    if not unusual:
        return ""
    return f"{category} U+{ord(character):04X} {unicodedata.name(character, _CONTROL_NAMES.get(character, ''))}".strip()


_CONTROL_NAMES = {"\t": "TAB", "\n": "LINE FEED", "\r": "CARRIAGE RETURN"}

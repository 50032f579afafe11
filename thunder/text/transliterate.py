"""Transliterate N'Ko to Latin letters and back, and report what the target script cannot express.

The letters are those of `alphabet` (Unicode, ALA-LC, r12a, daba's documentation). Tone is written in one of three ways:

- "full": every vowel bears its tone, so that N'Ko text can be had back: á high, à low, ǎ rising, â the high vowel that
  stands unmarked at the end of a word and falls; long áa àa áà ǎa; the low apostrophe is a grave on its consonant.
- "lexical", as in tonal dictionaries of Bambara: an accent only where the tone changes. A final fall is not told from
  a final high, nor the long falling tone from the long high one.
- "none": toneless, as Bambara is printed.

IRREVERSIBLE lists what does not survive the round trip.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import regex

from thunder.text.alphabet import (
    ABBREVIATION,
    ACUTE,
    CARON,
    CIRCUMFLEX,
    DIAERESIS,
    DIGITS,
    ELIDED_LOW,
    FOREIGN,
    GRAVE,
    LAJANYALAN,
    LONG_FALLING,
    LONG_HIGH,
    LONG_LOW,
    LONG_RISING,
    MARKS,
    NASAL,
    PUNCTUATION,
    SHORT_HIGH,
    SHORT_LOW,
    SHORT_RISING,
    SYLLABIC_N,
    TILDE,
    VOWELS,
)
from thunder.text.alphabet import CONSONANTS as NKO_CONSONANTS
from thunder.text.bambara import (
    LETTER_BY_LETTER,
    LOOK_ALIKES,
    Tones,
    is_old_spelling,
    read_as_bambara,
    spell_in_nko,
)
from thunder.text.normalize import normalize_text
from thunder.text.syllables import WORD, Syllable, spelling_faults, split_syllables

_ACCENT = {"": ACUTE, SHORT_HIGH: ACUTE, SHORT_LOW: GRAVE, SHORT_RISING: CARON}
# accents of the two letters of a long vowel
_LONG = {LONG_HIGH: (ACUTE, ""), LONG_LOW: (GRAVE, ""), LONG_FALLING: (ACUTE, GRAVE), LONG_RISING: (CARON, "")}
# the tone at the end of a mark, to find out whether the next vowel changes it
_HEARD = {GRAVE: GRAVE, ACUTE: ACUTE, CIRCUMFLEX: ACUTE}
_ORDINAL = {SHORT_RISING: CARON, NASAL: TILDE}
_TO_LATIN = DIGITS | PUNCTUATION | {LAJANYALAN: ""}
_TO_NKO = {latin: nko for nko, latin in DIGITS.items()} | {
    ",": "\u07f8",
    "!": "\u07f9",
    "?": "\u061f",
    ";": "\u061b",
}
# lajanyalan that stretches nothing is used as a dash
_LONE_LAJANYALAN = regex.compile(rf"(?<![\p{{L}}\p{{M}}]){LAJANYALAN}+(?![\p{{L}}\p{{M}}])")
# reasons why a character of N'Ko text is not in the Latin text
LONE_DASH = "lajanyalan by itself: read as a dash"
STRETCH_DROPPED = "lajanyalan, which stretches the line, is dropped"
_LONE_MARKS = regex.compile(
    rf"(?<![\p{{L}}\p{{M}}\u07c0-\u07c9])[{MARKS.replace(ABBREVIATION, '')}]+"
    rf"|(?<=[\u07c0-\u07c9])[{''.join(mark for mark in MARKS if mark not in (ABBREVIATION, *_ORDINAL))}]+"
)
MARK_DROPPED = "a mark without a letter is dropped"
ABBREVIATION_DROPPED = "dantayalan (U+07FD), which marks an abbreviation, has no Latin sign and is dropped"
_ORDINAL_MARK = {latin: nko for nko, latin in _ORDINAL.items()}
_NKO_NUMBER = regex.compile(f"([\u07c0-\u07c9])([{''.join(_ORDINAL)}])?")
# a letter of a Latin word, where a look-alike of another alphabet may stand beside Latin letters
_LETTER = rf"[\p{{Latin}}{''.join(LOOK_ALIKES)}]"
_LETTERS = rf"{_LETTER}[\p{{Latin}}{''.join(LOOK_ALIKES)}\u0300-\u036f]*"
_LATIN_PART = regex.compile(
    rf"(?P<word>(?=[{''.join(LOOK_ALIKES)}]*\p{{Latin}}){_LETTERS}(?:['\u2019\u2018\u02bc]{_LETTERS})*)"
    r"|(?P<number>[0-9]+(?:,[0-9]+)*)(?P<ordinal>[\u030c\u0303])?|(?P<other>.)",
    regex.DOTALL,
)

# N'Ko spellings that do not survive the round trip through the full Latin form: an example and the reason
IRREVERSIBLE = (
    ("\u07d3\u07ca\u07df\u07ca", "a vowel written though the rule elides it comes back elided"),
    ("\u07de\u07df\u07ca\u07ef", "a vowel elided before a long or nasal one comes back written"),
    ("\u07d5\u07de\u07d3\u07ca", "of three consonants in a row only the pairs that the rule elides come back"),
    ("\u07d3\u07ca\u07eb\u07d3\u07cc", "a short high mark inside a word goes: there high is unmarked"),
    ("\u07d3\u07ca\u07f2\u07e3\u07ca", "na after a nasal comes back as na woloso, but for the participle in nɛn"),
    ("\u07d3\u07ca\u07f2\u07e6\u07ca", "ya after a nasal comes back as nya woloso"),
    ("\u07e0\u07ca\u07eb", "na woloso at the head of a word (its nasal is in the word before) comes back as na"),
    ("\u07d3\u07ca\u07f2\u07ca\u07eb", "a nasal vowel before a vowel comes back as n between two vowels"),
    ("\u07ca\u07ca\u07ec", "two short vowels, high then low, come back as one long falling one"),
    ("\u07e8\u07ca\u07eb", "the archaic ja, cha and ra come back as today's letters"),
    ("\u07d3\u07d1\u07d3\u07ca\u07eb", "a doubled consonant comes back without dagbasinna"),
    ("\u07db\u07d1\u07e4\u07ca\u07eb", "s and h, r and r and the like come back as the one letter that sh, rr mean"),
    ("\u07d3\u07ca\u07eb\u07eb", "marks that cannot stand where they do are dropped"),
    ("\u07d3\u07fa\u07ca\u07eb", "lajanyalan is dropped"),
    ("\u07d3\u07ca\u07eb\u060c", "the Arabic comma comes back as the N'Ko one, and so does a Latin one"),
    ("abc 1", "Latin words and digits in N'Ko text become N'Ko; letter case is lost"),
)


@dataclass(frozen=True)
class UncertainSpelling:
    """A place where the source lacks what the target script needs, or where letters were dropped.

    position: code point of the word in the source (NFC). source: the word. reason: what is unknown.
    """

    position: int
    source: str
    reason: str


@dataclass(frozen=True)
class Transliteration:
    """A text in the other script (NFC), its uncertain places, and a note on the whole text."""

    text: str
    unsure: tuple[UncertainSpelling, ...] = ()
    note: str = ""


def to_latin(text: str, tones: Tones = "lexical") -> Transliteration:
    """Return N'Ko text in Latin letters; elided vowels are restored, other scripts are unchanged.

    A word that breaks the spelling rules is converted as well as possible and listed with the rule.
    """
    source = normalize_text(text)
    unsure = _dropped(source)
    text = _LONE_LAJANYALAN.sub(lambda run: "-" + run[0][1:], source)
    # code point of `source` for each one of the text without lajanyalan
    places = [at for at, character in enumerate(text) if character != LAJANYALAN]
    text = text.replace(LAJANYALAN, "")
    parts: list[str] = []
    position = 0
    for match in WORD.finditer(text):
        parts.append(_outside_words(text[position : match.start()]))
        latin, against_rules = _latin_word(match[0], tones)
        parts.append(latin)
        unsure += [UncertainSpelling(places[match.start()], match[0], kind) for kind in against_rules]
        position = match.end()
    parts.append(_outside_words(text[position:]))
    return Transliteration(normalize_text("".join(parts)), tuple(sorted(unsure, key=lambda one: one.position)))


def to_nko(text: str, tones: Tones = "lexical") -> Transliteration:
    """Return Latin text in N'Ko letters, letter by letter; `tones` tells how the text marks tone.

    Bambara spelling differs from N'Ko spelling, which follows the history of the words (tɔgɔ is U+07D5 U+07D0 U+07EE in
    N'Ko): the result is readable but not correct N'Ko, as its note says. Each word in which tone, length or a letter
    was guessed is listed. Letters of other scripts are unchanged.
    """
    text = normalize_text(text)
    old = is_old_spelling(text)
    unsure: list[UncertainSpelling] = []
    parts: list[str] = []
    for match in _LATIN_PART.finditer(text):
        if word := match["word"]:
            modern, guesses = read_as_bambara(word, tones, old)
            spelled, reasons = spell_in_nko(modern, tones)
            parts.append(spelled)
            unsure += [UncertainSpelling(match.start(), word, reason) for reason in (*guesses, *reasons)]
        elif number := match["number"]:
            # a comma between digits is a decimal comma, and stays
            mark = _ORDINAL_MARK.get(match["ordinal"] or "", "")
            parts.append("".join(character if character == "," else _TO_NKO[character] for character in number) + mark)
        else:
            parts.append(_TO_NKO.get(match["other"], match["other"]))
    return Transliteration(normalize_text("".join(parts)), tuple(unsure), LETTER_BY_LETTER)


def _dropped(text: str) -> list[UncertainSpelling]:
    """List the characters of a text (NFC) that have no Latin sign, each where it stands."""
    found = [UncertainSpelling(match.start(), match[0], LONE_DASH) for match in _LONE_LAJANYALAN.finditer(text)]
    lone = {one.position + place for one in found for place in range(len(one.source))}
    for at, character in enumerate(text):
        if character == LAJANYALAN and at not in lone:
            found.append(UncertainSpelling(at, character, STRETCH_DROPPED))
        elif character == ABBREVIATION:
            found.append(UncertainSpelling(at, character, ABBREVIATION_DROPPED))
    found += [UncertainSpelling(match.start(), match[0], MARK_DROPPED) for match in _LONE_MARKS.finditer(text)]
    return found


def _outside_words(text: str) -> str:
    """Convert numbers and punctuation to Latin; marks without a base are dropped."""
    text = _NKO_NUMBER.sub(lambda number: DIGITS[number[1]] + _ORDINAL.get(number[2], ""), text)
    return "".join(_TO_LATIN.get(character, character) for character in text if character not in MARKS)


@lru_cache(maxsize=1 << 16)
def _latin_word(word: str, tones: Tones) -> tuple[str, tuple[str, ...]]:
    """Return a N'Ko word in Latin letters, and the kinds of its faults."""
    syllables = split_syllables(word)
    last = len(syllables) - 1
    last_tone = ""
    parts: list[str] = []
    for number, syllable in enumerate(syllables):
        parts.append(_onset(syllable, tones))
        if not syllable.vowel:
            continue
        accents = _accents(syllable, tones, final=number == last)
        first = accents[0]
        # syllabic n always has its tone mark, because a bare n would mean nasality
        changes = first != last_tone or syllable.tone == LONG_FALLING or syllable.vowel == SYLLABIC_N
        if tones == "none" or (tones == "lexical" and not changes):
            first = ""
        parts.append(_vowel(syllable, first, accents[1:] if tones == "full" else tuple("" for _ in accents[1:])))
        # after a vowel with a changing tone, any tone is a change
        last_tone = "" if syllable.tone in (SHORT_RISING, LONG_RISING, LONG_FALLING) else _HEARD.get(accents[0], "")
    return "".join(parts), tuple(fault.kind for fault in spelling_faults(word))


def _onset(syllable: Syllable, tones: Tones) -> str:
    consonant = FOREIGN.get(syllable.onset) or NKO_CONSONANTS.get(syllable.onset[:1], "")
    if not syllable.apostrophe:
        return consonant
    low = tones == "full" and syllable.apostrophe == ELIDED_LOW
    return f"{consonant}{GRAVE}'" if low else f"{consonant}'"


def _accents(syllable: Syllable, tones: Tones, final: bool) -> tuple[str, ...]:
    """Return the accents of a vowel's one or two letters."""
    if syllable.is_long:
        return _LONG[syllable.tone]
    if (
        tones == "full"
        and final
        and syllable.tone == ""
        and syllable.form == "written"
        and syllable.vowel != SYLLABIC_N
    ):
        return (CIRCUMFLEX,)
    return (_ACCENT[syllable.tone],)


def _vowel(syllable: Syllable, first: str, others: tuple[str, ...]) -> str:
    if syllable.vowel == SYLLABIC_N:
        return f"n{first}"
    # U+07F3 on a vowel without a known letter for the pair is a diaeresis
    letter = FOREIGN.get(syllable.vowel) or VOWELS[syllable.vowel[0]] + (DIAERESIS if syllable.vowel[1:] else "")
    return letter + first + "".join(letter + accent for accent in others) + ("n" if syllable.nasal else "")

"""Normalize text for comparison, hashing, models and display, and find faults in it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import regex

from thunder.text.alphabet import (
    DOTS,
    LAJANYALAN,
    LATIN_APOSTROPHES,
    NASAL,
    SYLLABIC_N,
    TONES,
    UNASSIGNED,
    VOWELS,
    Alphabet,
)

BIDI_CONTROLS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
BYTE_ORDER_MARK = "\ufeff"
_TONE_PLACE = re.compile(f"[{''.join(VOWELS)}{SYLLABIC_N}][{TONES}{NASAL}{DOTS}]+")
_DROP_TONES = str.maketrans("", "", TONES)
_INVISIBLE = re.compile(f"[{LAJANYALAN}{BYTE_ORDER_MARK}{BIDI_CONTROLS}]")
_SPACE_BEFORE = re.compile(r" +(?=[\u07f8\u07f9\u060c\u061b\u061f,.;:!?])")

# kind of fault -> pattern; a word is a run of letters and marks of any script
_FAULTS = {
    "half of a surrogate pair": regex.compile(r"\p{Cs}"),
    "byte order mark": regex.compile(BYTE_ORDER_MARK),
    "bidi control": regex.compile(f"[{BIDI_CONTROLS}]"),
    "unassigned N'Ko code point": regex.compile(f"[{UNASSIGNED}]"),
    "control character": regex.compile(r"[\p{Cc}--[\t\n]]", regex.V1),
    "replacement character": regex.compile("\ufffd"),
    "private or no character": regex.compile(r"\p{Co}|\p{NChar}"),
    # the ornate parentheses U+FD3E and U+FD3F are in the same block and are correct in N'Ko text
    "presentation form": regex.compile("[\ufb00-\ufd3d\ufd50-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc]"),
    "mark without a letter": regex.compile(r"(?<![\p{L}\p{M}\p{N}\u25cc])\p{M}"),
    "scripts mixed in a word": regex.compile(
        r"(?<![\p{L}\p{M}])(?=[\p{L}\p{M}]*[\p{Nko}--[\u07c0-\u07c9]])"
        r"(?=[\p{L}\p{M}]*[\p{L}--\p{Nko}--\p{Common}])[\p{L}\p{M}]+",
        regex.V1,
    ),
    "lajanyalan": regex.compile(LAJANYALAN),
}


@dataclass(frozen=True)
class TextFault:
    """A fault in a text: its kind, its code point position, its characters."""

    kind: str
    position: int
    characters: str

    def __str__(self) -> str:
        codes = " ".join(f"U+{ord(character):04X}" for character in self.characters[:8])
        return f"{self.kind} at {self.position}: {codes}{' ...' if len(self.characters) > 8 else ''}"


def normalize_text(text: str) -> str:
    """Return text in Unicode normal form C. Apply it before any comparison.

    In N'Ko the nasal dot U+07F2 has combining class 220 and the tone marks have 230, so dot + tone and tone + dot are
    the same text in two orders and would count as edits. No character of the block decomposes, so for N'Ko the normal
    form only orders marks.
    """
    return unicodedata.normalize("NFC", text)


def strip_tones(text: str) -> str:
    """Return text (NFC) without the tone marks of its N'Ko vowels and syllabic n.

    Kept: the nasal dot, the two dots, and the same marks after a consonant or a digit, where they make another letter
    (U+07DC U+07ED is g) or an ordinal. Length is removed with the tone, since only long tones write it. Latin accents
    stay: in older Bambara spelling and in French words they are not tones.
    """
    return _TONE_PLACE.sub(lambda place: place[0].translate(_DROP_TONES), normalize_text(text))


def normalize_for_scoring(text: str) -> str:
    """Return text (NFC) without characters that readers neither see nor hear, for scoring across sources.

    Removed: lajanyalan (U+07FA), bidi controls and the byte order mark, space at both ends and before punctuation (98 %
    of the N'Ko commas of one corpus have it, 44 % of another's); other white space becomes one space.
    """
    return _SPACE_BEFORE.sub("", " ".join(_INVISIBLE.sub("", normalize_text(text)).split()))


def modernize_bambara(text: str) -> str:
    """Return Bambara (NFC) in modern letters: ɛ ɔ for è ê ò ô, e for é, ɲ for ny.

    Not for text with tone accents, where è is e with low tone. French words in the text are damaged.
    """
    text = normalize_text(text).translate(_OLD_LETTERS)
    return _OLD_NY.sub(lambda place: "ɲ" if place[0][0] == "n" else "Ɲ", text)


# the last pairs are Greek and other look-alike letters, typed on keyboards without the Bambara letters
_OLD_LETTERS = str.maketrans("èêòôéÈÊÒÔÉεɳ", "ɛɛɔɔeƐƐƆƆEɛɲ")
# between vowels ny can be a nasal vowel and y, as in bonya
_OLD_NY = re.compile("(?<![aeiouɛɔAEIOUƐƆ])[nN]y(?=[aeiouɛɔ])")


def text_faults(text: str) -> list[TextFault]:
    """Return what a clean N'Ko or Latin text does not contain, in text order; the text is not changed.

    Line ends and tabs are no faults. "not in normal form C" is reported once, at the first difference.
    """
    faults = [
        TextFault(kind, match.start(), match[0])
        for kind, pattern in _FAULTS.items()
        for match in pattern.finditer(text)
    ]
    if (normal := normalize_text(text)) != text:
        pairs = enumerate(zip(text, normal, strict=False))
        place = next((at for at, (old, new) in pairs if old != new), min(len(text), len(normal)))
        faults.append(TextFault("not in normal form C", place, text[place : place + 1]))
    return sorted(faults, key=lambda fault: (fault.position, fault.kind))


# apostrophes and hyphens between letters belong to the spelling, other punctuation and symbols do not
_WORD_PUNCTUATION = rf"{LATIN_APOSTROPHES}\-"
_NOT_SPOKEN = regex.compile(
    rf"(?<![\p{{L}}\p{{M}}])[{_WORD_PUNCTUATION}]|[{_WORD_PUNCTUATION}](?!\p{{L}})|[\p{{P}}\p{{S}}--[{_WORD_PUNCTUATION}]]",
    regex.V1,
)


def spoken_form(text: str, alphabet: Alphabet) -> str:
    """Return a text without punctuation, symbols and lajanyalan, prepared for the alphabet's labels: the target of a
    recognizer.

    Letters and digits without a label stay: `Alphabet.unknown_characters` names them.
    """
    return alphabet.prepare(_NOT_SPOKEN.sub(" ", normalize_text(text).replace(LAJANYALAN, "")))


OPEN, CLOSE = "\u27e6", "\u27e7"
_HARMLESS = "\t\n"
# controls, formats (bidi overrides among them), private, half and unassigned ones; line and paragraph separators
_HIDDEN = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}


class _ShownCharacters(dict[int, str]):
    """What each code point is shown as; computed once per code point."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        hidden = character not in _HARMLESS and unicodedata.category(character) in _HIDDEN
        self[code] = f"{OPEN}U+{code:04X}{CLOSE}" if hidden else character
        return self[code]


_SHOWN = _ShownCharacters()


def escape_hidden(text: str) -> str:
    """Return the text with hidden characters as U+XXXX in white brackets; tabs and line ends stay.

    The result can be encoded as UTF-8 and contains no character that changes the direction of what follows.
    """
    return text.translate(_SHOWN)

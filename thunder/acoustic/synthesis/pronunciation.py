"""Convert Bambara letters to espeak-ng phonemes; espeak-ng has no voice for a Mande language."""

from __future__ import annotations

import re
import unicodedata

from thunder.text.alphabet import LATIN_APOSTROPHES

_VOWELS = {letter: letter for letter in "aeiou"} | {"ɛ": "E", "ɔ": "O"}
_CONSONANTS = {letter: letter for letter in "pbtdkgfvszhmnlrw"} | {
    "c": "tS", "j": "dZ", "y": "j", "ɲ": "n^", "ŋ": "N", "x": "x", "q": "k", "ʃ": "S", "ʒ": "Z", "ɣ": "x",
    "ny": "n^", "sh": "S", "gb": "gb", "kp": "kp", "kh": "x", "gh": "x",
}  # fmt: skip
_LETTERS = re.compile("|".join(sorted([*_VOWELS, *_CONSONANTS, "."], key=len, reverse=True)))
_ANY_VOWEL = "".join(_VOWELS)
# n after a vowel and not before one marks nasality, not a consonant; ny is one letter
_NASAL = re.compile(f"(?<=[{_ANY_VOWEL}])n(?![{_ANY_VOWEL}y])")
_SILENT = re.compile(f"[{LATIN_APOSTROPHES}\u0300-\u036f]")


def to_phonemes(text: str) -> str | None:
    """A spoken Latin text (see `text.normalize`) in espeak-ng mnemonics; None if a letter has no sound.

    Tone is omitted, as in print. A nasal vowel becomes the vowel and a velar nasal; a long vowel gets a colon.
    """
    plain = _SILENT.sub("", unicodedata.normalize("NFD", text.lower())).replace("-", " ")
    words = [_word_phonemes(word) for word in plain.split()]
    return None if None in words or not words else " ".join(word for word in words if word)


def _word_phonemes(word: str) -> str | None:
    sounds: list[str] = []
    last = ""
    for letter in _LETTERS.findall(_NASAL.sub("ŋ", word)):
        if letter in _VOWELS and letter == last:
            sounds[-1] = f"{_VOWELS[letter]}:"
        elif letter in _VOWELS or letter in _CONSONANTS:
            sounds.append(_VOWELS.get(letter) or _CONSONANTS[letter])
        else:
            return None
        last = letter
    # the bar separates two sounds that would form another mnemonic
    return "|".join(sounds)

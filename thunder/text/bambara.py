"""Spell a Latin word of Bambara or a related language in N'Ko letters, and report what the spelling had to guess."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import regex

from thunder.text.alphabet import (
    ACUTE,
    CARON,
    CIRCUMFLEX,
    CONSONANTS,
    DIAERESIS,
    DOTS,
    ELIDED_HIGH,
    ELIDED_LOW,
    FOREIGN,
    GRAVE,
    LATIN_APOSTROPHES,
    LONG_FALLING,
    LONG_HIGH,
    LONG_LOW,
    LONG_RISING,
    NA_WOLOSO,
    NASAL,
    NO_VOWEL,
    NYA_WOLOSO,
    SHORT_HIGH,
    SHORT_LOW,
    SHORT_RISING,
    SYLLABIC_N,
    VOWELS,
)
from thunder.text.syllables import Syllable, is_elided_pair

LETTER_BY_LETTER = (
    "letter by letter: N'Ko spelling goes by the history of words, which Latin Bambara does not write, "
    "so this can be read but is not correct N'Ko"
)
TONE_ACCENTS = ACUTE + GRAVE + CARON + CIRCUMFLEX

# reasons why the spelling of a word is uncertain
TONE = "tone is not written: its vowels stand unmarked, as high ones do"
LENGTH = "a long vowel in no known tone: long high assumed"
FINAL_HIGH = "a final high vowel: assumed to be the unmarked one that falls"
FINAL_LONG = "a long high vowel: assumed to fall at the end of the word and nowhere else"
ELISION = "two like vowels in no known tone: elided as if the tones were one"
NATIVE_G = "g: N'Ko has none of its own, its words have gb, a long vowel or nothing there"
NASAL_N = "n or y after a nasal: na woloso or na, nya woloso, ya or ɲ"
APOSTROPHE = "an elided vowel in no known tone: high assumed"
PLURAL = "a final w: in N'Ko the plural is a word of its own"
NO_LETTER = "a letter or an accent that N'Ko has no sign for is dropped"
LOOK_ALIKE = "a letter of another alphabet that looks like a Bambara one is read as that"
OLD_SPELLING = "è, ò, ê or ô: read as ɛ or ɔ of the old spelling, and é as e"
MAYBE_OLD = "è, ò or é: read as e or o with a tone; in the old spelling è is ɛ, ò is ɔ, and there is no tone"

# letters typed on keyboards without the Bambara letters -> the letter that is meant: Greek epsilon, lunate epsilon and
# eta, Cyrillic ye, reversed sigma, reversed c, small capital open o, n with retroflex hook
LOOK_ALIKES = {
    "\u03b5": "ɛ",
    "\u03f5": "ɛ",
    "\u0454": "ɛ",
    "\u037b": "ɔ",
    "\u2184": "ɔ",
    "\u1d10": "ɔ",
    "\u03b7": "ŋ",
    "\u0273": "ɲ",
}
_LOOK_ALIKE_LETTERS = str.maketrans(LOOK_ALIKES)
# vowels of the old spelling, which has no ɛ ɔ and writes no tone
_OLD_VOWELS = str.maketrans(
    {"è": "ɛ", "ê": "ɛ", "ò": "ɔ", "ô": "ɔ", "é": "e", "È": "Ɛ", "Ê": "Ɛ", "Ò": "Ɔ", "Ô": "Ɔ", "É": "E"}
)
_OLD_ONLY = regex.compile("[èêòôéÈÊÒÔÉ]")
# what the old spelling does not have: the modern letters, and accents on other vowels
_NOT_OLD = regex.compile("[ɛɔɲŋƐƆƝŊ]|[aiunAIUN][\u0300\u0301\u0302\u030c]|[eo][\u030c]")

_VOWEL = {latin: nko for nko, latin in VOWELS.items()} | {"ə": "\u07cb" + DOTS}
# of two N'Ko letters with one sound the plain one wins: na woloso and the archaic letters come later in the table
_CONSONANT: dict[str, str] = {}
for _nko, _latin in [*CONSONANTS.items(), *FOREIGN.items()]:
    if _latin not in ("ə", "ü", "n"):
        _CONSONANT.setdefault(_latin, _nko)
_CONSONANT |= {"n": "\u07e3", "ŋ": SYLLABIC_N, "kh": _CONSONANT["x"], "gh": _CONSONANT["ɣ"]}
_CONSONANT |= {"ʃ": _CONSONANT["sh"], "ʒ": _CONSONANT["zh"]}
_DIGRAPHS = "|".join(sorted((latin for latin in _CONSONANT if len(latin) == 2), reverse=True))
_TOKEN = regex.compile(rf"(?P<letter>{_DIGRAPHS}|\p{{L}})(?P<marks>[\u0300-\u036f]*)|(?P<apostrophe>')")
_FOREIGN_G = _CONSONANT["g"]
_SHORT = {ACUTE: "", GRAVE: SHORT_LOW, CARON: SHORT_RISING, CIRCUMFLEX: "", "": ""}
_LONG = {
    ACUTE: LONG_HIGH,
    GRAVE: LONG_LOW,
    CARON: LONG_RISING,
    CIRCUMFLEX: LONG_FALLING,
    ACUTE + GRAVE: LONG_FALLING,
    GRAVE + ACUTE: LONG_RISING,
    "": LONG_HIGH,
}
# the tone that continues over vowels without an accent
_GOES_ON = {ACUTE: ACUTE, GRAVE: GRAVE, CARON: ACUTE, CIRCUMFLEX: ACUTE}
Tones = Literal["full", "lexical", "none"]


@dataclass(frozen=True, slots=True)
class _Sound:
    """A Latin vowel or consonant on its way to N'Ko. accents: its tone accents, of two letters if the vowel is long."""

    kind: Literal["vowel", "consonant", "syllabic", "apostrophe"]
    nko: str
    accents: str = ""
    nasal: bool = False
    long: bool = False


_N, _Y = _Sound("consonant", _CONSONANT["n"]), _Sound("consonant", _CONSONANT["y"])
_NY = _Sound("consonant", _CONSONANT["ɲ"])
_CLOSES = ("consonant", "syllabic", "end")
# -nɛn after a nasal is the participle, which keeps its na (4,100 of 5,500 na after a nasal in open text)
_PARTICIPLE = [_N.nko, _VOWEL["ɛ"], _N.nko]


def is_old_spelling(text: str) -> bool:
    """Return whether a text has vowels of the old spelling (è ò é) and nothing that it lacks: ɛ ɔ, other accents."""
    decomposed = unicodedata.normalize("NFD", text)
    return bool(_OLD_ONLY.search(unicodedata.normalize("NFC", text))) and not _NOT_OLD.search(decomposed)


def read_as_bambara(word: str, tones: Tones, old: bool) -> tuple[str, tuple[str, ...]]:
    """Return a word (NFC) in modern Bambara letters, and what was guessed. old: its text is in the old spelling.

    With lexical tone an accent on e or o can be a tone, so there it is kept and only listed.
    """
    modern = word.lower().translate(_LOOK_ALIKE_LETTERS)
    reasons = [LOOK_ALIKE] if modern != word.lower() else []
    if old and tones == "none" and modern != (spelled := modern.translate(_OLD_VOWELS)):
        return spelled, (*reasons, OLD_SPELLING)
    if old and tones == "lexical" and _OLD_ONLY.search(modern):
        reasons.append(MAYBE_OLD)
    return modern if reasons else word, tuple(reasons)


@lru_cache(maxsize=1 << 16)
def spell_in_nko(word: str, tones: Tones) -> tuple[str, tuple[str, ...]]:
    """Return a Latin word in N'Ko letters, and the reasons why it may be wrong, each once.

    word: letters, combining marks and apostrophes. tones: how the word marks tone, see `transliterate`; with "none" the
    accents are ignored.
    """
    reasons: dict[str, None] = {}
    sounds = _with_length(_with_nasals(_sounds(word, tones, reasons), reasons), tones)
    text = _join_syllables(_syllables(sounds, tones, reasons), reasons)
    if _FOREIGN_G in text:
        reasons[NATIVE_G] = None
    if len(sounds) > 1 and sounds[-1].nko == _CONSONANT["w"] and sounds[-2].kind == "vowel":
        reasons[PLURAL] = None
    return text, tuple(reasons)


def _sounds(word: str, tones: Tones, reasons: dict[str, None]) -> list[_Sound]:
    """Split a word into sounds; a digraph is one sound."""
    for apostrophe in LATIN_APOSTROPHES[1:]:
        word = word.replace(apostrophe, LATIN_APOSTROPHES[0])
    sounds: list[_Sound] = []
    for match in _TOKEN.finditer(unicodedata.normalize("NFD", word.lower())):
        letter, marks = match["letter"], match["marks"] or ""
        accents = "" if tones == "none" else "".join(mark for mark in marks if mark in TONE_ACCENTS)
        if letter is None:
            sounds.append(_Sound("apostrophe", ""))
        elif nko := _VOWEL.get(letter):
            dots = DOTS if DIAERESIS in marks and DOTS not in nko else ""
            sounds.append(_Sound("vowel", nko + dots, accents[:1]))
        elif letter == "ŋ" or (letter == "n" and accents):
            sounds.append(_Sound("syllabic", SYLLABIC_N, accents[:1]))
        elif nko := _CONSONANT.get(letter):
            sounds.append(_Sound("consonant", nko, accents[:1]))
        else:
            reasons[NO_LETTER] = None
        if marks.strip(TONE_ACCENTS + DIAERESIS):
            reasons[NO_LETTER] = None
    return sounds


def _with_nasals(sounds: list[_Sound], reasons: dict[str, None]) -> list[_Sound]:
    """Classify each n: a consonant before a vowel, nasality after one, else a syllable; also y and n after nasals."""
    done: list[_Sound] = []
    for at, sound in enumerate(sounds):
        before = done[-1] if done else None
        after = sounds[at + 1].kind if at + 1 < len(sounds) else "end"
        after_nasal = before is not None and (before.nasal or before.kind == "syllabic")
        bare_n = sound == _N or (sound.nko == SYLLABIC_N and not sound.accents)
        if sound.kind == "syllabic" and after == "apostrophe":
            done.append(replace(sound, kind="consonant", nko=_N.nko))
        elif bare_n and before is not None and before.kind == "vowel" and not before.nasal and after in _CLOSES:
            done[-1] = replace(before, nasal=True)
        elif sound == _N and before is None and after in ("consonant", "end"):
            if sounds[1:2] == [_Y] and len(sounds) > 2 and sounds[2].kind == "vowel":
                reasons[NASAL_N] = None
                done.append(_NY)
            else:
                done.append(replace(sound, kind="syllabic", nko=SYLLABIC_N))
        elif sound == _Y and done == [_NY] and at == 1:
            continue
        elif sound in (_N, _Y) and after_nasal and after == "vowel":
            reasons[NASAL_N] = None
            participle = [one.nko for one in sounds[at:]] == _PARTICIPLE
            woloso = NYA_WOLOSO if sound == _Y else NA_WOLOSO
            done.append(sound if participle else replace(sound, nko=woloso))
        else:
            done.append(sound)
    return done


def _with_length(sounds: list[_Sound], tones: Tones) -> list[_Sound]:
    """Merge two equal vowels into a long one, unless in full notation each has its own tone."""
    done: list[_Sound] = []
    for sound in sounds:
        before = done[-1] if done else None
        pair = before.accents + sound.accents if before is not None else ""
        doubled = before is not None and before.kind == sound.kind == "vowel" and before.nko == sound.nko
        if before is None or not doubled or before.nasal or before.long:
            done.append(sound)
        elif not sound.accents or pair == ACUTE + GRAVE or tones == "lexical":
            accents = pair if pair in _LONG else pair[:1]
            done[-1] = replace(before, accents=accents, long=True, nasal=sound.nasal)
        else:
            done.append(sound)
    return done


def _syllables(sounds: list[_Sound], tones: Tones, reasons: dict[str, None]) -> list[Syllable]:
    """Return the syllables with tone marks; a vowel without an accent keeps the tone before it."""
    done: list[Syllable] = []
    onset, last_tone = "", ""
    for at, sound in enumerate(sounds):
        after = sounds[at + 1] if at + 1 < len(sounds) else None
        if sound.kind == "apostrophe":
            if not at or sounds[at - 1].kind != "consonant":
                reasons[NO_LETTER] = None
        elif sound.kind == "consonant":
            if after is not None and after.kind == "vowel":
                onset = sound.nko
            else:
                done.append(_lone_consonant(sound, sounds[at + 1 :], tones, reasons))
        else:
            tone = _tone(sound, last_tone, after is None, tones, reasons)
            done.append(Syllable(at, onset, sound.nko, sound.nasal, tone))
            onset, last_tone = "", _GOES_ON.get(sound.accents[-1:], last_tone)
    return done


def _lone_consonant(sound: _Sound, rest: list[_Sound], tones: Tones, reasons: dict[str, None]) -> Syllable:
    """Return the syllable of a consonant without a vowel after it. rest: the sounds after it."""
    if rest and rest[0].kind == "apostrophe":
        if tones != "full":
            reasons[APOSTROPHE] = None
        apostrophe = ELIDED_LOW if sound.accents == GRAVE else ELIDED_HIGH
        return Syllable(0, sound.nko, "", form="apostrophe", apostrophe=apostrophe)
    # dagbasinna is written only if a vowel follows in the word, so not in a final cluster, as in an abbreviation
    cluster_ends_in = next((one.kind for one in rest if one.kind != "consonant"), "end")
    if cluster_ends_in in ("apostrophe", "end") or rest[0].nko == sound.nko:
        return Syllable(0, sound.nko, "", form="bare")
    return Syllable(0, sound.nko, "", form="silenced")


def _tone(sound: _Sound, last_tone: str, final: bool, tones: Tones, reasons: dict[str, None]) -> str:
    """Return the tone mark of a vowel or a syllabic n."""
    accents = sound.accents or last_tone
    if not accents:
        reasons[TONE] = None
        if sound.long:
            reasons[LENGTH] = None
    if sound.long:
        if accents == ACUTE and tones == "lexical":
            reasons[FINAL_LONG] = None
            return LONG_FALLING if final else LONG_HIGH
        return _LONG[accents]
    if sound.kind == "vowel" and final and accents == ACUTE:
        if tones == "full":
            return SHORT_HIGH
        reasons[FINAL_HIGH] = None
    return _SHORT[accents]


def _join_syllables(syllables: list[Syllable], reasons: dict[str, None]) -> str:
    """Join syllables: gbàralí elides the first vowel of a pair, dagbasinna marks a consonant without a vowel."""
    parts: list[str] = []
    elided = False
    for at, syllable in enumerate(syllables):
        after = syllables[at + 1] if at + 1 < len(syllables) else None
        # the vowel from which an elided one is read must be written
        elided = (
            after is not None
            and not elided
            and syllable.form == after.form == "written"
            and is_elided_pair(syllable, after)
        )
        if elided and TONE in reasons:
            reasons[ELISION] = None
        if elided:
            parts.append(syllable.onset)
        elif syllable.form == "silenced":
            parts.append(syllable.onset + NO_VOWEL)
        else:
            parts.append(
                syllable.onset
                + syllable.apostrophe
                + syllable.vowel
                + (NASAL if syllable.nasal else "")
                + syllable.tone
            )
    return "".join(parts)

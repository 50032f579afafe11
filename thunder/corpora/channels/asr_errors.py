"""Corrupt N'Ko text with the mistakes of recognizers and of hurried writers, at their observed frequencies."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from thunder.text.normalize import normalize_text

VOWEL = "[\u07ca-\u07d0]"
CONSONANT = "[\u07d3-\u07e7]"
MARK = "[\u07eb-\u07f3]"
SYLLABLE = f"{CONSONANT}{VOWEL}{MARK}*"


@dataclass(frozen=True)
class WrittenConfusion:
    """One kind of mistake: the text that it replaces, the replacement, and its relative frequency."""

    name: str
    weight: int
    pattern: re.Pattern[str]
    replacement: str


# start and end of a span of the text, and what replaces it
Place = tuple[int, int, str]


def _confusion(name: str, weight: int, pattern: str, replacement: str) -> WrittenConfusion:
    return WrittenConfusion(name, weight, re.compile(pattern), replacement)


# The weights are counts of changes in published human copy-edits of N'Ko (those of at most 30 % edits); the last two
# are set by hand: doubled syllables are a recognizer's mistake and do not occur in writing.
CONFUSIONS = (
    _confusion("words merged", 354, " (?=[\u07ca-\u07ea])", ""),
    _confusion("word split", 70, f"({SYLLABLE})(?={SYLLABLE})", r"\1 "),
    _confusion("high tone lost", 182, "\u07eb", ""),
    _confusion("high tone added", 95, f"({VOWEL}\u07f2?)(?!{MARK})", "\\1\u07eb"),
    _confusion("low tone lost", 166, "\u07ec", ""),
    _confusion("low tone added", 139, f"({VOWEL}\u07f2?)(?!{MARK})", "\\1\u07ec"),
    _confusion("high tone as low", 107, "\u07eb", "\u07ec"),
    _confusion("low tone as high", 101, "\u07ec", "\u07eb"),
    _confusion("high tone as long high", 67, "\u07eb", "\u07ef"),
    _confusion("low tone as long low", 55, "\u07ec", "\u07f0"),
    _confusion("nasal dot lost", 176, "\u07f2", ""),
    _confusion("nasal dot added", 86, f"({VOWEL})(?!\u07f2)", "\\1\u07f2"),
    _confusion("la as na woloso", 67, "\u07df", "\u07e0"),
    _confusion("na woloso as la", 28, "\u07e0", "\u07df"),
    _confusion("dagbasinna lost", 63, "\u07d1", ""),
    _confusion("comma lost", 62, " ?[\u07f8\u060c]", ""),
    _confusion("i as open e", 53, "\u07cc", "\u07cd"),
    _confusion("i as closed e", 44, "\u07cc", "\u07cb"),
    _confusion("closed o as open o", 44, "\u07cf", "\u07d0"),
    _confusion("u as closed o", 38, "\u07ce", "\u07cf"),
    _confusion("a as open e", 25, "\u07ca", "\u07cd"),
    _confusion("open o as closed o", 22, "\u07d0", "\u07cf"),
    _confusion("syllable doubled", 20, f"({SYLLABLE})", r"\1\1"),
)


def corrupt_by_hand(text: str, mistakes: int, source: random.Random) -> str:
    """Return a text (in NFC) with about `mistakes` mistakes, each drawn by its weight and placed where it can occur.

    No two mistakes affect the same characters; where no place is left, fewer are made. Only `source.random()` is drawn
    from, whose sequence for a seed is the same in every version of Python.
    """
    text = normalize_text(text)
    struck: list[Place] = []
    free = [True] * len(text)
    for _ in range(mistakes):
        possible = [(kind.weight, places) for kind in CONFUSIONS if (places := _places(kind, text, free))]
        if not possible:
            break
        places = _by_weight(possible, source)
        start, end, replacement = places[int(source.random() * len(places))]
        struck.append((start, end, replacement))
        free[start:end] = [False] * (end - start)
    return normalize_text(_rewrite(text, struck)).strip()


def _places(kind: WrittenConfusion, text: str, free: list[bool]) -> list[Place]:
    """Return the places where one kind of mistake is still possible."""
    matches = (match for match in kind.pattern.finditer(text) if all(free[match.start() : match.end()]))
    return [(match.start(), match.end(), match.expand(kind.replacement)) for match in matches]


def _by_weight(possible: list[tuple[int, list[Place]]], source: random.Random) -> list[Place]:
    """Return the places of one kind of mistake, drawn by its weight."""
    point = source.random() * sum(weight for weight, _ in possible)
    for weight, places in possible:
        point -= weight
        if point < 0:
            return places
    return possible[-1][1]


def _rewrite(text: str, struck: list[Place]) -> str:
    """Return a text with the replacements applied."""
    parts, position = [], 0
    for start, end, replacement in sorted(struck):
        parts += [text[position:start], replacement]
        position = end
    return "".join([*parts, text[position:]])

"""Define an error channel for N'Ko by hand from known confusions, for use without pairs to learn from."""

from __future__ import annotations

from thunder.corpora.channels.error_channel import Counts, ErrorChannel
from thunder.text.alphabet import VOWELS

# How often a code point occurs in the corrected text of published human copy-edits of N'Ko, those of at most 30 %
# edits (2,105 rows), and what it replaced, how often. They are errors of writers and not of a recognizer, which
# makes more of each kind and some of its own.
GAPS = 388_736
CHANGES: dict[str, tuple[int, dict[str, int]]] = {
    " ": (65_341, {"": 354}),
    "\u07eb": (25_268, {"": 182, "\u07ec": 101}),
    "\u07ec": (32_196, {"": 166, "\u07eb": 107}),
    "\u07ef": (2_500, {"\u07eb": 67}),
    "\u07f0": (2_000, {"\u07ec": 55}),
    "\u07f2": (19_493, {"": 176}),
    "\u07e0": (3_361, {"\u07df": 67}),
    "\u07df": (18_747, {"\u07e0": 28}),
    "\u07d1": (1_174, {"": 63}),
    "\u07f8": (4_600, {"": 62, "\u060c": 28}),
    "\u07cd": (11_936, {"\u07cc": 53, "\u07ca": 25}),
    "\u07cb": (8_906, {"\u07cc": 44}),
    "\u07d0": (11_639, {"\u07cf": 44}),
    "\u07cf": (9_213, {"\u07ce": 38}),
    "\u07d9": (5_700, {"\u07da": 16}),
    "\u07d4": (540, {"\u07d3": 15}),
}
# vowels in the texts, and insertions after a vowel: tones, the nasal dot, a space that splits the word
VOWELS_SEEN = 106_000
INSERTIONS = {"\u07ec": 139, "\u07eb": 95, "\u07f2": 86, " ": 70}
# Errors of a recognizer only: a repeated syllable. No writer makes them, so these numbers are a guess.
LOOPS = {"2x1": 12, "3x1": 6, "2x3": 2}


def hand_written_channel() -> ErrorChannel:
    """Return the channel named "hand-written"; its errors do not depend on context."""
    changes: Counts = {
        heard: {heard: seen - sum(errors.values()), **errors} for heard, (seen, errors) in CHANGES.items()
    }
    after_vowel = {"": VOWELS_SEEN - sum(INSERTIONS.values()), **INSERTIONS}
    return ErrorChannel(
        name="hand-written",
        provenance={
            "source": "counts of changes in human copy-edits of N'Ko, and a guess at repeated syllables",
            "learned_from_recogniser_output": False,
        },
        changes=changes,
        insertions={"": {"": GAPS}, **dict.fromkeys(VOWELS, after_vowel)},
        runs={kind: {"1": 1} for kind in ("letter", "mark", "space", "other")},
        loops=LOOPS,
        gaps=GAPS,
        severities=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.8, 2.6),
    )

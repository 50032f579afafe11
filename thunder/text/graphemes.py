"""Grapheme clusters: what a reader takes for one letter, a base with all of its marks."""

from __future__ import annotations

import regex

from thunder.text.normalize import normalise

# the extended grapheme cluster of Unicode Standard Annex 29
CLUSTER = regex.compile(r"\X")


def graphemes(text: str) -> list[str]:
    """The extended grapheme clusters of a text in NFC; joined they are that text again.

    A N'Ko vowel with nasal dot and tone is one cluster, 1.4 code points on the average. The apostrophes U+07F4 and
    U+07F5 and lajanyalan are letters (Lm), so each is a cluster of its own.
    """
    return CLUSTER.findall(normalise(text))

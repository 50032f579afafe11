"""A text as it is heard: what a recogniser is asked to write, without the signs that only readers see."""

from __future__ import annotations

import regex

from thunder.text.alphabet import LAJANYALAN, LATIN_APOSTROPHES, Alphabet
from thunder.text.normalize import normalise

# apostrophes and hyphens between letters are spelling, all other punctuation and symbols are not
_KEPT = rf"{LATIN_APOSTROPHES}\-"
_UNHEARD = regex.compile(rf"(?<![\p{{L}}\p{{M}}])[{_KEPT}]|[{_KEPT}](?!\p{{L}})|[\p{{P}}\p{{S}}--[{_KEPT}]]", regex.V1)


def spoken(text: str, alphabet: Alphabet) -> str:
    """A text without punctuation, symbols and lajanyalan, prepared for the alphabet's labels.

    Letters and digits that have no label stay: `alphabet.strangers` names them.
    """
    return alphabet.prepare(_UNHEARD.sub(" ", normalise(text).replace(LAJANYALAN, "")))

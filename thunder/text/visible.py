"""Texts for people's eyes: characters that cannot be seen, or would turn a line around, are shown by their number."""

from __future__ import annotations

import unicodedata

OPEN, CLOSE = "\u27e6", "\u27e7"
_HARMLESS = "\t\n"
# controls, formats (bidi overrides among them), private, half and unassigned ones; line and paragraph separators
_HIDDEN = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}


class _Shown(dict[int, str]):
    """What each code point is shown as, found out once."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        hidden = character not in _HARMLESS and unicodedata.category(character) in _HIDDEN
        self[code] = f"{OPEN}U+{code:04X}{CLOSE}" if hidden else character
        return self[code]


_SHOWN = _Shown()


def visible(text: str) -> str:
    """The text with hidden characters as U+202E in white brackets; tabs and line ends stay.

    What comes out can be written as UTF-8 and has no character that changes the direction of what follows.
    """
    return text.translate(_SHOWN)

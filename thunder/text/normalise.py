"""The one normal form in which text is compared, hashed and shown to a model."""

from __future__ import annotations

import unicodedata


def normalise(text: str) -> str:
    """Text in Unicode normal form C.

    Normalise before any comparison. In N'Ko the nasal dot U+07F2 has combining class 220 and the tone marks have 230,
    so dot + tone and tone + dot are the same text in two orders, and would count as edits though nothing was changed.
    No character of the block decomposes: here the normal form orders marks and does nothing else.
    """
    return unicodedata.normalize("NFC", text)

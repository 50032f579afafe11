"""Holding rows out by what they say, so that no reference text is both trained on and tested on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from thunder.corpora.rows import Row
from thunder.errors import UsageError
from thunder.text.normalise import normalise


def holdout(rows: Iterable[Row], fraction: float, salt: str) -> tuple[list[Row], list[Row]]:
    """Divide rows into (kept, held out), each in the order given.

    A row's side depends on its reference text, the fraction and the salt, and on nothing else: rows with one reference
    stay together, rows keep their side when others come or go, and a larger fraction only adds to what is held out.
    About `fraction` of the distinct references are held out; of few rows it can be none.

    Raises UsageError where the fraction is not between 0 and 1.
    """
    if not 0 <= fraction <= 1:
        raise UsageError(f"a fraction of {fraction} cannot be held out", fix="give a fraction between 0 and 1")
    kept: list[Row] = []
    held_out: list[Row] = []
    for row in rows:
        (held_out if _position(reference_key(row), salt) < fraction else kept).append(row)
    return kept, held_out


def reference_key(reference: Row | str) -> str:
    """What two reference texts have in common when they are the same text: the normal form, trimmed.

    Surrounding space is trimmed by the chat template, so it does not make another text.
    """
    return normalise(reference if isinstance(reference, str) else reference.reference).strip()


def _position(key: str, salt: str) -> float:
    """Where a reference lies in [0, 1): its salted digest, read as a fraction."""
    # 53 bits are what a float holds exactly; more could round up to 1.0
    return (int.from_bytes(hashlib.sha256(f"{salt}\0{key}".encode()).digest()[:8]) >> 11) / 2**53

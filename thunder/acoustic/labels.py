"""Texts as CTC labels in either script, and how many frames they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thunder.corpora.rows.correction_rows import row_script
from thunder.errors import CorpusError, combined_error
from thunder.text.alphabet import LATIN, NKO, Alphabet
from thunder.text.normalize import normalize_text
from thunder.text.transliterate import to_latin, to_nko

ALPHABETS: dict[str, Alphabet] = {"nko": NKO, "latin": LATIN}


def target_text(text: str, fields: Mapping[str, Any], script: str, drop: str = "") -> str:
    """The text that the labels encode (NFC): in the requested script, without the characters of `drop`.

    A text in the other script is transliterated, unless `fields` has text_nko or text_latin.
    """
    given = fields.get(f"text_{script}")
    if isinstance(given, str) and given.strip():
        text = given
    elif row_script(text) == {"nko": "latin", "latin": "nko"}[script]:
        text = (to_nko if script == "nko" else to_latin)(text, "none").text
    remaining = normalize_text(text).translate({ord(character): " " for character in drop})
    return normalize_text(ALPHABETS[script].prepare(remaining))


def encode_labels(text: str, script: str) -> list[int]:
    """U label ids. Raises CorpusError that lists each character without a label."""
    return ALPHABETS[script].encode(text)


def frames_needed(labels: Sequence[int]) -> int:
    """Fewest frames in which CTC can emit the labels: two equal labels need a blank between them."""
    return len(labels) + sum(label == next_label for label, next_label in zip(labels, labels[1:], strict=False))


def label_vocabulary(script: str) -> dict[str, Any]:
    """vocab.json: the labels by id, the blank first."""
    alphabet = ALPHABETS[script]
    return {
        "alphabet": alphabet.name,
        "script": script,
        "form": alphabet.form,
        "fold": alphabet.fold,
        "blank": 0,
        "labels": ["<blank>", *alphabet.labels],
    }


def check_characters(texts: Mapping[str, str], script: str) -> None:
    """Raise one CorpusError that lists every text (id -> text) with its characters without a label."""
    faults = []
    for name, text in texts.items():
        if unknown := ALPHABETS[script].unknown_characters(text):
            listed = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in unknown)
            faults.append(f"{name}: {listed} in {text!r}")
    if faults:
        raise combined_error(
            CorpusError,
            f"{len(faults)} texts have characters that the {ALPHABETS[script].name} alphabet has no label for:",
            faults,
            fix="correct these texts, or name the characters to leave out with --drop",
        )

"""The rows of an evaluation: recognized texts with references and correction prompts."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thunder.corpora.rows import chat_rows as corpus_rows
from thunder.corpora.rows.chat_rows import ChatRow
from thunder.corpora.rows.field_mapping import NO_MAPPING, FieldMapping
from thunder.errors import CorpusError, combined_error
from thunder.text.chat import correction_prompt
from thunder.text.row_fields import PARTITIONS, UNKNOWN


@dataclass(frozen=True)
class Case:
    """One row to evaluate. place: its index among the evaluated rows.

    messages: the prompt. from_text: it was made from the text alone, so that a model asks in the words of its training.
    partition: one of PARTITIONS or "unknown". script: nko, latin, mixed, other or none; that of the reference where the
    row states none.
    """

    place: int
    row_id: str
    input: str
    reference: str
    messages: tuple[dict[str, Any], ...]
    partition: str = UNKNOWN
    script: str = UNKNOWN
    evidence_class: str | None = None
    is_correction: bool = True
    fields: dict[str, Any] = field(default_factory=dict)
    from_text: bool = False


@dataclass(frozen=True)
class EvaluationSet:
    """The rows of one file and the SHA-256 of its bytes. all_ids: also of the rows beyond the limit."""

    path: Path
    sha256: str
    cases: tuple[Case, ...]
    all_ids: frozenset[str]
    unknown_partitions: dict[str, int]


def read_cases(
    path: Path,
    limit: int = 0,
    references: corpus_rows.References = "empty",
    mapping: FieldMapping = NO_MAPPING,
) -> EvaluationSet:
    """Read the rows of a file, only the first `limit` of them where it is not 0. references: which rows need one.

    mapping: new names of fields.

    Raises CorpusError that lists the lines that are not valid, or the ids that occur more than once.
    """
    corpus = corpus_rows.read_rows(path, references, mapping)
    numbers = Counter(row.row_id for row in corpus.rows)
    repeated = [f"id '{row_id}' occurs {count} times" for row_id, count in numbers.items() if count > 1]
    if repeated:
        raise combined_error(CorpusError, f"{path} cannot be evaluated:", repeated, fix="give each row its own id")
    chosen = corpus.rows[: limit or None]
    unknown = Counter(
        str(row.fields["partition"])
        for row in chosen
        if "partition" in row.fields and row.fields["partition"] not in PARTITIONS
    )
    cases = tuple(case_from_row(row, place) for place, row in enumerate(chosen))
    return EvaluationSet(path, corpus.sha256, cases, frozenset(numbers), dict(unknown))


def case_from_row(row: ChatRow, place: int) -> Case:
    """A corpus row as a case."""
    partition, script, evidence = (row.fields.get(key) for key in ("partition", "script", "evidence_class"))
    return Case(
        place,
        row.row_id,
        row.asr_text,
        row.reference,
        row.prompt_messages,
        partition if partition in PARTITIONS else UNKNOWN,
        script if isinstance(script, str) and script else script_of_letters(row.reference),
        evidence if isinstance(evidence, str) else None,
        row.is_correction,
        row.fields,
    )


def case_from_text(row_id: str, asr_text: str, fields: dict[str, Any]) -> Case:
    """A text without a reference, with the correction prompt."""
    messages = ({"role": "user", "content": correction_prompt(asr_text)},)
    return Case(0, row_id, asr_text, "", messages, fields=fields, from_text=True)


def case_from_prompt(row_id: str, text: str, system_prompt: str | None = None, raw: bool = False) -> Case:
    """A text to answer. raw: the text is the whole turn of the user, and not a text to correct."""
    content = text if raw else correction_prompt(text)
    system = ({"role": "system", "content": system_prompt},) if system_prompt else ()
    from_text = not raw and not system
    return Case(0, row_id, text, "", (*system, {"role": "user", "content": content}), from_text=from_text)


def script_of_letters(text: str) -> str:
    """The script of the letters of a text: nko, latin, mixed (both), other, or none where it has no letter."""
    letters = [character for character in text if unicodedata.category(character)[0] == "L"]
    nko = sum("\u07c0" <= letter <= "\u07ff" for letter in letters)
    latin = sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    if nko and latin:
        return "mixed"
    return "nko" if nko else "latin" if latin else "other" if letters else "none"

"""What is evaluated: recognised texts, each with its reference and the prompt that asks for its repair."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thunder.corpora.rows import chat_rows as corpus_rows
from thunder.corpora.rows.chat_rows import ChatRow
from thunder.errors import CorpusError, combined_error
from thunder.text.chat import correction_prompt
from thunder.text.row_fields import PARTITIONS, UNKNOWN


@dataclass(frozen=True)
class Case:
    """One row to evaluate. place: its number among the rows that are evaluated, from 0.

    messages: the prompt. partition: one of PARTITIONS or "unknown". script: nko, latin, mixed, other or none, of the
    reference where the row does not say.
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


@dataclass(frozen=True)
class EvaluationSet:
    """The rows of one file and the digest of its bytes. all_ids: of the rows beyond the limit too."""

    path: Path
    sha256: str
    cases: tuple[Case, ...]
    all_ids: frozenset[str]
    strange_partitions: dict[str, int]


def read_cases(path: Path, limit: int = 0, references: corpus_rows.References = "empty") -> EvaluationSet:
    """Read the rows of a file, the first `limit` of them where it is not 0. references: what a reference may be.

    Raises CorpusError that lists the lines which cannot be used, or the ids that stand more than once.
    """
    corpus = corpus_rows.read_rows(path, references)
    numbers = Counter(row.row_id for row in corpus.rows)
    twice = [f"id '{row_id}' stands {count} times" for row_id, count in numbers.items() if count > 1]
    if twice:
        raise combined_error(CorpusError, f"{path} cannot be evaluated:", twice, fix="give each row an id of its own")
    chosen = corpus.rows[: limit or None]
    strange = Counter(
        str(row.fields["partition"])
        for row in chosen
        if "partition" in row.fields and row.fields["partition"] not in PARTITIONS
    )
    cases = tuple(case_from_row(row, place) for place, row in enumerate(chosen))
    return EvaluationSet(path, corpus.sha256, cases, frozenset(numbers), dict(strange))


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
    """A text without a reference, under the one prompt that corrections are asked for with."""
    messages = ({"role": "user", "content": correction_prompt(asr_text)},)
    return Case(0, row_id, asr_text, "", messages, fields=fields)


def script_of_letters(text: str) -> str:
    """The script of a text's letters: nko, latin, mixed (both), other, or none where it has no letter."""
    letters = [character for character in text if unicodedata.category(character)[0] == "L"]
    nko = sum("\u07c0" <= letter <= "\u07ff" for letter in letters)
    latin = sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    if nko and latin:
        return "mixed"
    return "nko" if nko else "latin" if latin else "other" if letters else "none"

"""Read rows of a corpus: chat messages that end with the answer, or other formats that become messages."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from thunder.corpora.rows.chat_messages import read_messages
from thunder.corpora.rows.field_mapping import NO_MAPPING, FieldMapping
from thunder.corpora.rows.jsonl_lines import LineFault, LineFaults, check_characters, kind_of_value
from thunder.corpora.rows.row_records import RowRecords
from thunder.corpora.rows.row_shapes import PAIRS, VERBATIM, References, shape_row
from thunder.errors import CorpusError
from thunder.text import distance, row_fields
from thunder.text.chat import CORRECTION_INSTRUCTION
from thunder.text.comparable import comparable_text
from thunder.text.distance import ErrorCount
from thunder.text.row_fields import ID_FIELDS, UNKNOWN
from thunder.units import format_path

__all__ = ["ID_FIELDS", "PAIRS", "VERBATIM", "ChatRow", "References", "RowFile", "read_row_files", "read_rows"]
# fields that training uses itself, or that describe a row without a part in its prompt or answer
DESCRIBING = frozenset({
    *row_fields.TEXT_IDS, *row_fields.PREDICTION_FIELDS, "reference_text", "schema", "tools", "origin",
    "evidence_class", "source", "source_split", "source_partition", "cer", "cer_cp", "sigils",
})  # fmt: skip
SYSTEM_NOTE = "'system' is the system turn"
TOOLS_NOTE = "'tools' in the prompt, as far as the chat template uses them"
# what `thunder corpus build` writes into the prompt, and training alone does not
PROMPT_METADATA = ("partition", "sigils", "trajectory_scalars")


@dataclass(frozen=True)
class ChatRow:
    """One conversation whose last turn is the assistant's: that turn is the reference, the rest is the prompt."""

    messages: tuple[dict[str, Any], ...]
    source: str
    row_id: str
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def prompt_messages(self) -> tuple[dict[str, Any], ...]:
        """Every message but the answer."""
        return self.messages[:-1]

    @property
    def reference(self) -> str:
        """The answer."""
        return self.messages[-1]["content"]

    @property
    def asr_text(self) -> str:
        """The text to be corrected: the field `asr_text`, else the last user turn without the instruction."""
        if "asr_text" in self.fields:
            return self.fields["asr_text"]
        return self._question.removeprefix(f"{CORRECTION_INSTRUCTION}\n")

    @property
    def is_correction(self) -> bool:
        """Whether the row names its recognized text, so that its error rate is defined."""
        return "asr_text" in self.fields or self._question.startswith(f"{CORRECTION_INSTRUCTION}\n")

    @property
    def _question(self) -> str:
        return next(message["content"] for message in reversed(self.messages) if message["role"] == "user")


@dataclass(frozen=True)
class RowFile:
    """The rows of one file, how its fields were read, and the digest of its bytes.

    form: JSONL, JSON array, CSV, TSV or Parquet. notes: what was renamed or is not trained on -> its number of rows.
    unused: field that no prompt or answer was made of -> its number of rows.
    """

    path: Path
    rows: tuple[ChatRow, ...]
    mapping: str | None
    sha256: str
    blank_lines: int
    form: str = "JSONL"
    notes: dict[str, int] = field(default_factory=dict)
    unused: dict[str, int] = field(default_factory=dict)

    @property
    def reading_rules(self) -> list[str]:
        """How rows were read, where version 0.1.0 read them in another way."""
        by_instruction = bool(self.mapping and self.mapping.startswith("instruction"))
        return (["instruction"] if by_instruction else []) + (["system"] if SYSTEM_NOTE in self.notes else [])

    @property
    def duplicates(self) -> int:
        """Rows whose messages occur in an earlier row; they are kept, and weigh double in training."""
        distinct = {json.dumps(row.messages, sort_keys=True) for row in self.rows}
        return len(self.rows) - len(distinct)

    @property
    def errors_before(self) -> ErrorCount | None:
        """Edits of the recognized texts against their references (micro), None where no row has such a text."""
        corrections = [row for row in self.rows if row.is_correction]
        pairs = ((comparable_text(row.asr_text), comparable_text(row.reference)) for row in corrections)
        counts = (distance.count_errors(*pair) for pair in pairs)
        return sum(counts, ErrorCount()) if corrections else None

    def summary(self) -> dict[str, Any]:
        """The report of the file, as JSON types."""
        before = self.errors_before
        return {
            "path": str(self.path),
            "rows": len(self.rows),
            "mapping": self.mapping,
            "blank_lines": self.blank_lines,
            "duplicates": self.duplicates,
            "cer": before.rate if before else None,
            "sha256": self.sha256,
            "form": self.form,
            "reading": self.notes,
            "unused_fields": self.unused,
        }

    def describe(self) -> str:
        """The summary as one line."""
        form = [] if self.form == "JSONL" else [self.form]
        parts = [f"{len(self.rows)} rows", *form, self.mapping or "messages"]
        if self.blank_lines:
            parts.append(f"{self.blank_lines} blank lines skipped")
        if self.duplicates:
            parts.append(f"{self.duplicates} duplicates kept")
        before = self.errors_before
        if before and before.rate is not None:
            parts.append(f"CER {before.rate:.4f} ({before.edits} edits in {before.reference_chars} code points)")
        return f"{format_path(self.path)}: {', '.join(parts)}"

    def reading_notes(self, used: Iterable[str] = ()) -> list[str]:
        """Sentences on what was read in another way than written, or not used. used: fields that the caller uses."""
        lines = [f"{note} ({_rows(times)})" for note, times in self.notes.items()]
        unused = [f"{name} ({_rows(times)})" for name, times in self.unused.items() if name not in set(used)]
        if unused:
            lines.append(f"fields not used: {', '.join(unused)}")
        return [f"{self.path.name}: {line}" for line in lines]


def _rows(number: int) -> str:
    return f"{number} row" if number == 1 else f"{number} rows"


def read_rows(path: Path, references: References = "written", mapping: FieldMapping = NO_MAPPING) -> RowFile:
    """Read a file of chat messages or of another known format (see `row_shapes` and `row_records`).

    references: what an answer may be beside a text; training needs a reference in each row. A reference that is missing
    from a pair, or null, is empty and not among the row's fields. mapping: new names of fields.
    Blank lines are skipped and counted; a byte order mark and CRLF line ends are accepted. Rows of pairs become the
    messages of a correction, except that a `prompt` or an `instruction` is kept as it is; all rows of a file must be
    read in one and the same way.

    Raises CorpusError that lists every unusable line and why, or says that the file cannot be read or has no rows.
    """
    rows: list[ChatRow] = []
    faults = LineFaults()
    records = RowRecords(path, faults, mapping=mapping)
    notes: Counter[str] = Counter()
    unused: Counter[str] = Counter()
    first: tuple[str, int] | None = None
    for number, fields in records:
        try:
            row, shape, unused_names = _row(fields, path, number, references, mapping, notes)
            first = first or (shape, number)
            if shape != first[0]:
                raise LineFault(
                    f"has the format '{shape}', but line {first[1]} has '{first[0]}'",
                    fix="put the rows of each format into a file of their own",
                )
        except LineFault as fault:
            faults.add_line(path, number, fault)
        else:
            rows.append(row)
            if unused_names:
                unused.update(unused_names)
    if faults:
        raise faults.error(f"{path} cannot be used:", fix=f"correct these lines; thunder corpus validate {path}")
    if not first:
        raise CorpusError(f"{path}: has no rows", fix="write one JSON object with 'messages' on each line")
    return RowFile(
        path,
        tuple(rows),
        None if first[0] == "messages" else first[0],
        records.sha256,
        records.notes["blank lines"],
        records.form,
        dict(notes),
        dict(unused),
    )


def read_row_files(
    paths: Iterable[Path], references: References = "written", mapping: FieldMapping = NO_MAPPING
) -> list[RowFile]:
    """Read several files.

    Raises CorpusError that lists the faults of all of them.
    """
    corpora: list[RowFile] = []
    errors: list[CorpusError] = []
    for path in paths:
        try:
            corpora.append(read_rows(path, references, mapping))
        except CorpusError as error:
            errors.append(error)
    if errors:
        raise CorpusError("\n".join(error.message for error in errors), fix=errors[0].fix)
    return corpora


def _row(
    fields: dict[str, Any],
    path: Path,
    number: int,
    references: References,
    mapping: FieldMapping,
    notes: Counter[str],
) -> tuple[ChatRow, str, list[str]]:
    """Return a row, the name of the shape that it was read from, and its fields that were not used."""
    shaped = shape_row(fields, references, mapping.names)
    messages = tuple(shaped.messages) if shaped.is_checked else read_messages(shaped.messages, references, notes)
    if "system" in shaped.used:
        notes[SYSTEM_NOTE] += 1
    if fields.get("tools"):
        notes[TOOLS_NOTE] += 1
    if shaped.shape == "messages":
        fields.pop("messages")
    elif shaped.asr_text is not None:
        fields.setdefault("asr_text", shaped.asr_text)
    asr_text = fields.get("asr_text", "")
    if not isinstance(asr_text, str):
        raise LineFault(f"'asr_text' is {kind_of_value(asr_text)}, not a text")
    for key in ("asr_text", *ID_FIELDS):
        if isinstance(fields.get(key), str):
            check_characters(f"'{key}'", fields[key])
    unused = [*shaped.unused, *_unused(fields, shaped.used, shaped.shape)]
    row_id = row_fields.first_id(fields, f"{path.stem}-{number}")
    return ChatRow(messages, f"{path.name}:{number}", row_id, fields), shaped.shape, unused


def _unused(fields: dict[str, Any], used: frozenset[str], shape: str) -> list[str]:
    """Fields with a value that neither the messages nor the program use."""
    known = _known_fields(used, shape == "messages")
    values = ((name, value) for name, value in fields.items() if name not in known)
    return [name for name, value in values if value not in (None, "", [], {}, UNKNOWN)]


@lru_cache(maxsize=64)
def _known_fields(used: frozenset[str], is_chat: bool) -> frozenset[str]:
    return (DESCRIBING if is_chat else DESCRIBING - set(PROMPT_METADATA)) | used

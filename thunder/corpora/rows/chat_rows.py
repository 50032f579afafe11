"""Read rows of a JSONL corpus: chat messages that end with the answer, or pairs of texts that become messages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from thunder.corpora.rows.jsonl_lines import (
    JsonLines,
    LineFault,
    LineFaults,
    check_characters,
    json_object,
    kind_of_value,
)
from thunder.errors import CorpusError
from thunder.text import distance
from thunder.text.chat import CORRECTION_INSTRUCTION, correction_messages
from thunder.text.distance import ErrorCount
from thunder.text.normalize import normalize_text
from thunder.units import format_path

ROLES = ("system", "user", "assistant")
PAIRS = (
    ("asr_text", "reference_text"),
    ("before", "after"),
    ("hyp", "ref"),
    ("hypothesis", "reference"),
    ("prompt", "completion"),
    ("input", "output"),
)
# a prompt already has its instruction
VERBATIM = ("prompt", "completion")
ID_FIELDS = ("id", "feat_id", "row_id")
# allowed references: with text; also empty, as for silence; or also missing, where no one wrote one
References = Literal["written", "empty", "missing"]


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
    """The rows of one file, how its fields were read, and the digest of its bytes."""

    path: Path
    rows: tuple[ChatRow, ...]
    mapping: str | None
    sha256: str
    blank_lines: int

    @property
    def duplicates(self) -> int:
        """Rows whose messages occur in an earlier row; they are kept, and weigh double in training."""
        distinct = {json.dumps(row.messages, sort_keys=True) for row in self.rows}
        return len(self.rows) - len(distinct)

    @property
    def errors_before(self) -> ErrorCount | None:
        """Edits of the recognized texts against their references (micro), None where no row has such a text."""
        corrections = [row for row in self.rows if row.is_correction]
        counts = (distance.count_errors(row.asr_text, row.reference) for row in corrections)
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
        }

    def describe(self) -> str:
        """The summary as one line."""
        parts = [f"{len(self.rows)} rows", self.mapping or "messages"]
        if self.blank_lines:
            parts.append(f"{self.blank_lines} blank lines skipped")
        if self.duplicates:
            parts.append(f"{self.duplicates} duplicates kept")
        before = self.errors_before
        if before and before.rate is not None:
            parts.append(f"CER {before.rate:.4f} ({before.edits} edits in {before.reference_chars} code points)")
        return f"{format_path(self.path)}: {', '.join(parts)}"


def read_rows(path: Path, references: References = "written") -> RowFile:
    """Read a JSONL file of chat messages or of recognized pairs (see PAIRS); blank lines are skipped and counted.

    references: what an answer may be beside a text; training needs a reference in each row. A reference that is missing
    from a pair, or null, is empty and not among the row's fields.
    A byte order mark and CRLF line ends are accepted. Rows of pairs become the messages of a correction, except that a
    `prompt` is kept as it is; all rows of a file must be read in one and the same way.

    Raises CorpusError that lists every unusable line and why, or says that the file cannot be read or has no rows.
    """
    rows: list[ChatRow] = []
    faults = LineFaults()
    lines = JsonLines(path, faults)
    first: tuple[str, int] | None = None
    for number, line in lines:
        try:
            row, shape = _row(json_object(line), path, number, references)
            first = first or (shape, number)
            if shape != first[0]:
                raise LineFault(f"has the format '{shape}', but line {first[1]} has '{first[0]}'")
            rows.append(row)
        except LineFault as fault:
            faults.add(f"{path}:{number}: {fault}")
    if faults:
        raise faults.error(f"{path} cannot be used:", fix=f"thunder corpus validate {path}")
    if not first:
        raise CorpusError(f"{path}: has no rows", fix="write one JSON object with 'messages' on each line")
    mapping = None if first[0] == "messages" else first[0]
    return RowFile(path, tuple(rows), mapping, lines.sha256, lines.notes["blank lines"])


def read_row_files(paths: Iterable[Path]) -> list[RowFile]:
    """Read several files.

    Raises CorpusError that lists the faults of all of them.
    """
    corpora: list[RowFile] = []
    errors: list[CorpusError] = []
    for path in paths:
        try:
            corpora.append(read_rows(path))
        except CorpusError as error:
            errors.append(error)
    if errors:
        raise CorpusError("\n".join(error.message for error in errors), fix=errors[0].fix)
    return corpora


def _row(fields: dict[str, Any], path: Path, number: int, references: References) -> tuple[ChatRow, str]:
    """Return a row, and the name of the shape it was read from."""
    if "messages" in fields:
        shape, messages = "messages", fields.pop("messages")
    else:
        shape, messages = _from_pair(fields, references)
    _check(messages, references)
    asr_text = fields.get("asr_text", "")
    if not isinstance(asr_text, str):
        raise LineFault(f"'asr_text' is {kind_of_value(asr_text)}, not a text")
    for key in ("asr_text", *ID_FIELDS):
        if isinstance(fields.get(key), str):
            check_characters(f"'{key}'", fields[key])
    named = (fields[key] for key in ID_FIELDS if isinstance(fields.get(key), str) and fields[key])
    row_id = next(named, f"{path.stem}-{number}")
    return ChatRow(tuple(messages), f"{path.name}:{number}", row_id, fields), shape


def _from_pair(fields: dict[str, Any], references: References) -> tuple[str, list[dict[str, str]]]:
    """Return the mapping and the messages of a row that has a known pair of texts instead of messages.

    A recognizer may output nothing, so the text to be corrected can be empty; an answer or a whole prompt cannot.
    """
    pair = next((pair for pair in PAIRS if fields.keys() >= set(pair)), None)
    if references == "missing" and (pair is None or fields[pair[1]] is None):
        return _from_half(fields)
    if pair is None:
        known = ", ".join(f"{question} + {answer}" for question, answer in PAIRS)
        found = ", ".join(map(repr, fields)) or "nothing"
        raise LineFault(f"no 'messages'; found {found}; expected messages, or {known}")
    for key in pair:
        if not isinstance(fields[key], str):
            raise LineFault(f"'{key}' is {kind_of_value(fields[key])}, not a text")
        is_answer = key == pair[1]
        if not fields[key].strip() and (references == "written" if is_answer else pair == VERBATIM):
            raise LineFault(f"'{key}' is empty")
        check_characters(f"'{key}'", fields[key])
    question, answer = (fields[key] for key in pair)
    messages = correction_messages(question, answer)
    if pair == VERBATIM:
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": normalize_text(answer)}]
    return f"{pair[0]} -> user, {pair[1]} -> assistant", messages


def _from_half(fields: dict[str, Any]) -> tuple[str, list[dict[str, str]]]:
    """Return the same for a row that has a recognized text alone."""
    pair = next((pair for pair in PAIRS if pair != VERBATIM and pair[0] in fields), None)
    if pair is None:
        known = ", ".join(pair[0] for pair in PAIRS if pair != VERBATIM)
        raise LineFault(
            f"no recognized text; found {', '.join(map(repr, fields)) or 'nothing'}; expected one of {known}"
        )
    fields.pop(pair[1], None)
    question = fields[pair[0]]
    if not isinstance(question, str):
        raise LineFault(f"'{pair[0]}' is {kind_of_value(question)}, not a text")
    check_characters(f"'{pair[0]}'", question)
    return f"{pair[0]} -> user, {pair[1]} -> assistant", correction_messages(question, "")


def _check(messages: Any, references: References) -> None:
    """Check that messages are a conversation to learn from: known roles, non-empty texts, the answer last."""
    if not isinstance(messages, list):
        raise LineFault(f"'messages' is {kind_of_value(messages)}, not a list")
    for position, message in enumerate(messages, start=1):
        if not isinstance(message, dict):
            raise LineFault(f"message {position} is {kind_of_value(message)}, not an object with 'role' and 'content'")
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                found = f"is {kind_of_value(message[key])}, not a text" if key in message else "is missing"
                raise LineFault(f"message {position}: '{key}' {found}")
        role, content = message["role"], message["content"]
        if role not in ROLES:
            raise LineFault(f"message {position}: unknown role {role!r}; known are {', '.join(ROLES)}")
        may_be_empty = references != "written" and position == len(messages) and role == "assistant"
        if role != "system" and not content.strip() and not may_be_empty:
            raise LineFault(f"message {position}: the {role} content is empty")
        check_characters(f"message {position}:", content)
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        raise LineFault("has no assistant turn to learn from")
    if roles[-1] != "assistant":
        raise LineFault(f"the last turn is the {roles[-1]}'s, not the assistant's")
    if "user" not in roles:
        raise LineFault("has no user turn")

"""Rows of a JSONL corpus: chat messages that end with the wanted answer, or pairs of texts that are made into such."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thunder.errors import CorpusError, several
from thunder.text import distance
from thunder.text.chat import CORRECTION_INSTRUCTION, correction_messages
from thunder.text.distance import ErrorCount
from thunder.text.normalise import normalise
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
# whoever writes a prompt has already said what is wanted of the model
VERBATIM = ("prompt", "completion")
ID_FIELDS = ("id", "feat_id", "row_id")


@dataclass(frozen=True)
class Row:
    """One conversation whose last turn is the assistant's: that turn is the reference, what precedes is the prompt."""

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
        """The answer that is wanted."""
        return self.messages[-1]["content"]

    @property
    def asr_text(self) -> str:
        """The text to be corrected: the field `asr_text`, else the last user turn without the instruction."""
        if "asr_text" in self.fields:
            return self.fields["asr_text"]
        return self._question.removeprefix(f"{CORRECTION_INSTRUCTION}\n")

    @property
    def is_correction(self) -> bool:
        """Whether the row says which text was recognised, so that its error rate means something."""
        return "asr_text" in self.fields or self._question.startswith(f"{CORRECTION_INSTRUCTION}\n")

    @property
    def _question(self) -> str:
        return next(message["content"] for message in reversed(self.messages) if message["role"] == "user")


@dataclass(frozen=True)
class Corpus:
    """The rows of one file, and what was found on the way: how its fields were read, and the digest of its bytes."""

    path: Path
    rows: tuple[Row, ...]
    mapping: str | None
    sha256: str
    blank_lines: int

    @property
    def duplicates(self) -> int:
        """Rows whose messages already stand in an earlier row; they are kept, and weigh double in training."""
        distinct = {json.dumps(row.messages, sort_keys=True) for row in self.rows}
        return len(self.rows) - len(distinct)

    @property
    def errors_before(self) -> ErrorCount | None:
        """Edits of the recognised texts against their references (micro), or None where no row has such a text."""
        corrections = [row for row in self.rows if row.is_correction]
        counts = (distance.count(row.asr_text, row.reference) for row in corrections)
        return sum(counts, ErrorCount()) if corrections else None

    def summary(self) -> dict[str, Any]:
        """What there is to report of the file, as JSON types."""
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
        """The summary as one line for people."""
        found = [f"{len(self.rows)} rows", self.mapping or "messages"]
        if self.blank_lines:
            found.append(f"{self.blank_lines} blank lines skipped")
        if self.duplicates:
            found.append(f"{self.duplicates} duplicates kept")
        before = self.errors_before
        if before and before.rate is not None:
            found.append(f"CER {before.rate:.4f} ({before.edits} edits in {before.reference_chars} code points)")
        return f"{format_path(self.path)}: {', '.join(found)}"


class _Fault(Exception):
    """Why one line cannot be used."""


def read(path: Path, empty_references: bool = False) -> Corpus:
    """Read a JSONL file of chat messages or of recognised pairs (see PAIRS); blank lines are skipped and counted.

    empty_references: whether an answer may be empty, as that of silence is; nobody can learn from such a row.
    A byte order mark and CRLF line ends are accepted. Rows of pairs become the messages of a correction, except that
    a `prompt` is kept as it is; all rows of a file must be read in one and the same way.

    Raises CorpusError that lists every line that cannot be used and why, or says that the file cannot be read or has
    no rows.
    """
    rows: list[Row] = []
    faults: list[str] = []
    blank_lines = 0
    digest = hashlib.sha256()
    first: tuple[str, int] | None = None
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                digest.update(line)
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if not line.strip():
                    blank_lines += 1
                    continue
                try:
                    row, shape = _row(_fields(line), path, number, empty_references)
                    first = first or (shape, number)
                    if shape != first[0]:
                        raise _Fault(f"is read as '{shape}', but line {first[1]} as '{first[0]}'")
                    rows.append(row)
                except _Fault as fault:
                    faults.append(f"{path}:{number}: {fault}")
    except OSError as error:
        reason = "is a folder, not a JSONL file" if path.is_dir() else error.strerror or str(error)
        raise CorpusError(f"{path}: {reason}", fix="give the path of a JSONL file") from None
    if faults:
        raise several(CorpusError, f"{path} cannot be used:", faults, fix=f"thunder corpus validate {path}")
    if not first:
        raise CorpusError(f"{path}: has no rows", fix="write one JSON object with 'messages' on each line")
    mapping = None if first[0] == "messages" else first[0]
    return Corpus(path, tuple(rows), mapping, digest.hexdigest(), blank_lines)


def read_all(paths: Iterable[Path]) -> list[Corpus]:
    """Read several files.

    Raises CorpusError that lists the faults of all of them.
    """
    corpora: list[Corpus] = []
    errors: list[CorpusError] = []
    for path in paths:
        try:
            corpora.append(read(path))
        except CorpusError as error:
            errors.append(error)
    if errors:
        raise CorpusError("\n".join(error.message for error in errors), fix=errors[0].fix)
    return corpora


def _fields(line: bytes) -> dict[str, Any]:
    """The JSON object on a line."""
    # only the last line of a file can lack its end
    cut = "" if line.endswith(b"\n") else "looks cut off: "
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise _Fault(f"{cut}byte {error.start + 1} of the line (0x{line[error.start]:02x}) is not UTF-8") from None
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise _Fault(f"{cut}not JSON at column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise _Fault(f"JSON that cannot be read: {error}") from None
    if not isinstance(fields, dict):
        raise _Fault(f"expected an object, found {_kind(fields)}")
    return fields


def _row(fields: dict[str, Any], path: Path, number: int, empty_references: bool) -> tuple[Row, str]:
    """A row, and the name of the shape it was read from."""
    if "messages" in fields:
        shape, messages = "messages", fields.pop("messages")
    else:
        shape, messages = _from_pair(fields, empty_references)
    _check(messages, empty_references)
    asr_text = fields.get("asr_text", "")
    if not isinstance(asr_text, str):
        raise _Fault(f"'asr_text' is {_kind(asr_text)}, not a text")
    for key in ("asr_text", *ID_FIELDS):
        if isinstance(fields.get(key), str):
            _check_characters(f"'{key}'", fields[key])
    named = (fields[key] for key in ID_FIELDS if isinstance(fields.get(key), str) and fields[key])
    row_id = next(named, f"{path.stem}-{number}")
    return Row(tuple(messages), f"{path.name}:{number}", row_id, fields), shape


def _from_pair(fields: dict[str, Any], empty_references: bool) -> tuple[str, list[dict[str, str]]]:
    """The mapping and the messages of a row that has a known pair of texts instead of messages.

    A recogniser may have heard nothing, so the text to be corrected can be empty; an answer or a whole prompt cannot.
    """
    pair = next((pair for pair in PAIRS if fields.keys() >= set(pair)), None)
    if pair is None:
        known = ", ".join(f"{question} + {answer}" for question, answer in PAIRS)
        found = ", ".join(map(repr, fields)) or "nothing"
        raise _Fault(f"no 'messages'; found {found}; would understand messages, or {known}")
    for key in pair:
        if not isinstance(fields[key], str):
            raise _Fault(f"'{key}' is {_kind(fields[key])}, not a text")
        is_answer = key == pair[1]
        if not fields[key].strip() and (not empty_references if is_answer else pair == VERBATIM):
            raise _Fault(f"'{key}' is empty")
        _check_characters(f"'{key}'", fields[key])
    question, answer = (fields[key] for key in pair)
    messages = correction_messages(question, answer)
    if pair == VERBATIM:
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": normalise(answer)}]
    return f"{pair[0]} -> user, {pair[1]} -> assistant", messages


def _check(messages: Any, empty_references: bool) -> None:
    """See that messages are a conversation to learn from: known roles, texts that say something, the answer last."""
    if not isinstance(messages, list):
        raise _Fault(f"'messages' is {_kind(messages)}, not a list")
    for position, message in enumerate(messages, start=1):
        if not isinstance(message, dict):
            raise _Fault(f"message {position} is {_kind(message)}, not an object with 'role' and 'content'")
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                found = f"is {_kind(message[key])}, not a text" if key in message else "is missing"
                raise _Fault(f"message {position}: '{key}' {found}")
        role, content = message["role"], message["content"]
        if role not in ROLES:
            raise _Fault(f"message {position}: unknown role {role!r}; known are {', '.join(ROLES)}")
        may_be_empty = empty_references and position == len(messages) and role == "assistant"
        if role != "system" and not content.strip() and not may_be_empty:
            raise _Fault(f"message {position}: the {role} content is empty")
        _check_characters(f"message {position}:", content)
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        raise _Fault("has no assistant turn to learn from")
    if roles[-1] != "assistant":
        raise _Fault(f"the last turn is the {roles[-1]}'s, not the assistant's")
    if "user" not in roles:
        raise _Fault("has no user turn")


def _check_characters(where: str, text: str) -> None:
    """See that a text can be written: JSON may escape half of a surrogate pair, and UTF-8 has no form for it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _Fault(f"{where} character {error.start + 1} is half of a surrogate pair") from None


def _kind(value: Any) -> str:
    """What JSON calls a value."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")

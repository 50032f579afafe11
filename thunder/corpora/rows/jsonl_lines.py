"""Read the lines of JSONL files one by one in bounded memory, and collect their faults."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from thunder.errors import CorpusError

# longest row, in bytes; a longer line is not a row, and is skipped without a copy in memory
LONGEST_LINE = 1 << 20
FAULTS_LISTED = 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# only a line with one of these can have a lone surrogate or a number that is not finite
_SUSPECT = re.compile(rb"\\u[dD]|NaN|Infinity|[eE]\+?\d{3}")
# receives the number of bytes that were read since the last call
Progress = Callable[[int], None]


class LineFault(Exception):
    """The reason why one line cannot be used."""


class LineFaults:
    """The faults of an input: the first ones are kept, all are counted."""

    def __init__(self) -> None:
        self.first: list[str] = []
        self.count = 0

    def __bool__(self) -> bool:
        return self.count > 0

    def add(self, fault: str) -> None:
        """Keep or count one fault."""
        self.count += 1
        if len(self.first) < FAULTS_LISTED:
            self.first.append(fault)

    def error(self, headline: str, fix: str) -> CorpusError:
        """Return one error with all faults."""
        lines = [headline, *(f"  {fault}" for fault in self.first)]
        if self.count > len(self.first):
            lines.append(f"  and {self.count - len(self.first)} more")
        return CorpusError("\n".join(lines), fix)


class JsonLines:
    """The non-blank lines of a file with their numbers; digest, size and oddities are known after the iteration.

    A line of more than LONGEST_LINE bytes is a fault and is never held whole. Iterating raises CorpusError where the
    file cannot be read.
    """

    def __init__(self, path: Path, faults: LineFaults, progress: Progress | None = None) -> None:
        self.path, self.faults, self.progress = path, faults, progress
        self.sha256, self.bytes, self.lines = "", 0, 0
        self.notes: Counter[str] = Counter()

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        digest, reported = hashlib.sha256(), 0
        try:
            with self.path.open("rb") as stream:
                while piece := stream.readline(LONGEST_LINE):
                    digest.update(piece)
                    self.lines += 1
                    self.bytes += len(piece)
                    if len(piece) == LONGEST_LINE and not piece.endswith(b"\n"):
                        self._pass_over(stream, digest)
                    elif line := self._count_notes(piece):
                        yield self.lines, line
                    if self.progress and self.bytes - reported > 1 << 16:
                        self.progress(self.bytes - reported)
                        reported = self.bytes
        except OSError as error:
            unreadable_error(self.path, error)
        if self.progress:
            self.progress(self.bytes - reported)
        self.sha256 = digest.hexdigest()

    def _pass_over(self, stream: Any, digest: Any) -> None:
        """Read on to the end of a line that is too long."""
        size = LONGEST_LINE
        while piece := stream.readline(LONGEST_LINE):
            digest.update(piece)
            size += len(piece)
            if piece.endswith(b"\n"):
                break
        self.bytes += size - LONGEST_LINE
        self.faults.add(f"{self.path}:{self.lines}: is {size} bytes long; a row has at most {LONGEST_LINE}")

    def _count_notes(self, line: bytes) -> bytes:
        """Return the line without a byte order mark, empty if it is blank; oddities are counted."""
        if self.lines == 1 and line.startswith(BYTE_ORDER_MARK):
            self.notes["byte order mark"] += 1
            line = line.removeprefix(BYTE_ORDER_MARK)
        if not line.strip():
            self.notes["blank lines"] += 1
            return b""
        if line.endswith(b"\r\n"):
            self.notes["Windows line ends"] += 1
        return line


def unreadable_error(path: Path, error: OSError) -> NoReturn:
    """Raise the CorpusError for a file that cannot be opened or read."""
    reason = "is a folder, not a JSONL file" if path.is_dir() else error.strerror or str(error)
    raise CorpusError(f"{path}: {reason}", fix="give the path of a JSONL file") from None


def json_object(line: bytes) -> dict[str, Any]:
    """Return the JSON object on a line. Raises LineFault with the reason where there is none."""
    # only the last line of a file can lack its end
    cut = "" if line.endswith(b"\n") else "looks cut off: "
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise LineFault(f"{cut}byte {error.start + 1} of the line (0x{line[error.start]:02x}) is not UTF-8") from None
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise LineFault(f"{cut}not JSON at column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise LineFault(f"JSON that cannot be read: {error}") from None
    if not isinstance(fields, dict):
        raise LineFault(f"expected an object, found {kind_of_value(fields)}")
    return fields


def sound_object(line: bytes) -> dict[str, Any]:
    """Return the JSON object on a line that can be re-encoded: whole characters, finite numbers. Raises LineFault."""
    fields = json_object(line)
    if _SUSPECT.search(line):
        for key, value in fields.items():
            try:
                check_characters(f"'{key}'", json.dumps({key: value}, ensure_ascii=False, allow_nan=False))
            except ValueError:
                raise LineFault(f"'{key}' has a number that is not finite") from None
    return fields


def check_characters(where: str, text: str) -> None:
    """Check that a text can be encoded: JSON may escape half of a surrogate pair, which UTF-8 cannot represent."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise LineFault(f"{where} character {error.start + 1} is half of a surrogate pair") from None


def kind_of_value(value: Any) -> str:
    """Return the JSON name of a value's type."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")

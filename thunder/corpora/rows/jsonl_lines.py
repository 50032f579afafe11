"""Read the lines of JSONL files one by one in bounded memory, and collect their faults."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thunder.corpora.rows.row_stream import Progress, RowStream, open_rows
from thunder.errors import CorpusError

__all__ = ["JsonLines", "LineFault", "LineFaults", "Progress", "check_characters", "json_object", "kind_of_value",
           "sound_object"]  # fmt: skip
# longest row, in bytes; a longer line is not a row, and is skipped without a copy in memory
LONGEST_LINE = 1 << 20
FAULTS_LISTED = 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# only a line with one of these can have a lone surrogate or a number that is not finite
_SUSPECT = re.compile(rb"\\u[dD]|NaN|Infinity|[eE]\+?\d{3}")
# so many lines with one reason are one line of the message, which names these of their numbers
GROUPED, NUMBERS_LISTED = 3, 4


class LineFault(Exception):
    """The reason why one line cannot be used. fix: what to do about it, where that is known."""

    def __init__(self, reason: str, fix: str | None = None) -> None:
        super().__init__(reason)
        self.fix = fix


class LineFaults:
    """The faults of an input: lines of a file with one reason are one fault in the list; all lines are counted."""

    def __init__(self) -> None:
        self.count = 0
        self.fix: str | None = None
        self._places: dict[tuple[str, str], list[str]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def __bool__(self) -> bool:
        return self.count > 0

    @property
    def first(self) -> list[str]:
        """The first faults, one text for each reason, with the lines that it holds for."""
        return [text for text, _ in self._listed()]

    def add(self, fault: str) -> None:
        """Keep or count one fault, a text of its own or `place:line: reason`."""
        match = _LINE.fullmatch(fault)
        place, line, reason = match.groups() if match else (fault, "", "")
        key = (place, reason)
        self.count += 1
        if key in self._places or len(self._places) < FAULTS_LISTED:
            self._counts[key] += 1
            places = self._places.setdefault(key, [])
            places += [line] if len(places) < NUMBERS_LISTED else []

    def add_line(self, path: Path, number: int, fault: LineFault) -> None:
        """Keep or count the fault of one line, and the first fix that one of them names."""
        self.add(f"{path}:{number}: {fault}")
        self.fix = self.fix or fault.fix

    def error(self, headline: str, fix: str) -> CorpusError:
        """Return one error with all faults. fix: what to do where no fault says so itself."""
        listed = self._listed()
        lines = [headline, *(f"  {text}" for text, _ in listed)]
        if rest := self.count - sum(times for _, times in listed):
            lines.append(f"  and {rest} more")
        return CorpusError("\n".join(lines), self.fix or fix)

    def _listed(self) -> list[tuple[str, int]]:
        """The texts of the first faults, each with the number of lines that it is about."""
        texts: list[tuple[str, int]] = []
        for (place, reason), numbers in self._places.items():
            count = self._counts[place, reason]
            if not reason:
                texts.append((place, count))
            elif count < GROUPED:
                texts += [(f"{place}:{number}: {reason}", 1) for number in numbers]
            else:
                more = f" and {count - len(numbers)} more" if count > len(numbers) else ""
                others = ", ".join(numbers[1:]) + more
                texts.append((f"{place}:{numbers[0]}: {reason} (also lines {others})", count))
        return texts[:FAULTS_LISTED]


_LINE = re.compile(r"(.*?):(\d+): (.*)", re.DOTALL)


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
        with open_rows(self.path, self.progress) as opened:
            yield from self.read(opened)

    def read(self, opened: RowStream) -> Iterator[tuple[int, bytes]]:
        """The same of a file that is open."""
        stream = opened.stream
        while piece := stream.readline(LONGEST_LINE):
            self.lines += 1
            if len(piece) == LONGEST_LINE and not piece.endswith(b"\n"):
                self._pass_over(stream)
            elif line := self._count_notes(piece):
                yield self.lines, line
        self.sha256 = opened.finish()
        self.bytes = opened.bytes

    def _pass_over(self, stream: Any) -> None:
        """Read on to the end of a line that is too long."""
        size = LONGEST_LINE
        while piece := stream.readline(LONGEST_LINE):
            size += len(piece)
            if piece.endswith(b"\n"):
                break
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


def json_object(line: bytes) -> dict[str, Any]:
    """Return the JSON object on a line. Raises LineFault with the reason where there is none."""
    # only the last line of a file can lack its end
    fields = json_value(line, "" if line.endswith(b"\n") else "looks cut off: ")
    if not isinstance(fields, dict):
        raise LineFault(f"expected an object, found {kind_of_value(fields)}")
    return fields


def json_value(data: bytes, prefix: str = "") -> Any:
    """Return the JSON value of some bytes. Raises LineFault with the reason after the prefix."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise LineFault(
            f"{prefix}byte {error.start + 1} of the line (0x{data[error.start]:02x}) is not UTF-8"
        ) from None
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise LineFault(f"{prefix}not JSON at {line}column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise LineFault(f"JSON that cannot be read: {error}") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; of a key that occurs twice, JSON readers keep one value or the other."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        key = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise LineFault(f"the key '{key}' occurs more than once in one object", fix="leave one of them")
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys)


def sound_object(line: bytes) -> dict[str, Any]:
    """Return the JSON object on a line that can be re-encoded: whole characters, finite numbers. Raises LineFault."""
    fields = json_object(line)
    if _SUSPECT.search(line):
        check_sound(fields)
    return fields


def check_sound(fields: dict[str, Any]) -> None:
    """Check that an object can be encoded as JSON: whole characters, finite numbers. Raises LineFault."""
    for key, value in fields.items():
        try:
            check_characters(f"'{key}'", json.dumps({key: value}, ensure_ascii=False, allow_nan=False))
        except ValueError:
            raise LineFault(f"'{key}' has a number that is not finite") from None


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

"""Spool rows to disk during a build, with only the data for splitting and counting in memory."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thunder.corpora.builders.corpus_folder import encode_row
from thunder.corpora.builders.totals import row_kinds
from thunder.corpora.splits import eval_only
from thunder.corpora.splits.near_duplicates import BATCH, comparable_key
from thunder.corpora.splits.split_by_reference import LinkedRows, text_mark

# most code points of the keys in a batch, so that memory does not grow with the length of rows
BATCH_CHARACTERS = 1 << 19


class RowSpool:
    """Rows in input order, each a line of a file and some numbers: about 60 bytes of memory a row.

    marks: of each reference; nodes: for `ties`; benchmark: whether the reference is a sentence of a benchmark.
    """

    def __init__(self, folder: Path) -> None:
        self._lines, self._keys = folder / "rows.spool", folder / "keys.spool"
        self._out, self._keys_out = self._lines.open("wb"), self._keys.open("wb")
        self.ties = LinkedRows()
        self.nodes, self.marks, self.benchmark = array("I"), array("Q"), bytearray()
        self._edits, self._chars, self._kinds = array("I"), array("I"), array("H")
        self._known_kinds: dict[tuple[str, ...], int] = {}

    def __len__(self) -> int:
        return len(self.nodes)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one row."""
        key = comparable_key(row["reference_text"])
        mark = text_mark(key)
        self.marks.append(mark)
        self.nodes.append(self.ties.add(mark, row["audio_id"]))
        self.benchmark.append(eval_only.is_eval_only(mark))
        self._edits.append(row["cer_edits"])
        self._chars.append(row["reference_chars"])
        self._kinds.append(self._known_kinds.setdefault(row_kinds(row), len(self._known_kinds)))
        self._out.write(encode_row(row))
        self._keys_out.write(key.encode() + b"\n")

    def close(self) -> None:
        """End the writing."""
        self._out.close()
        self._keys_out.close()

    def remove(self) -> None:
        """Delete the files."""
        self.close()
        self._lines.unlink(missing_ok=True)
        self._keys.unlink(missing_ok=True)

    def edits(self, number: int) -> tuple[int, int]:
        """Edits and reference code points of a row."""
        return self._edits[number], self._chars[number]

    def kinds(self) -> list[tuple[str, ...]]:
        """The kinds of rows, in the order of `kind_numbers`."""
        return list(self._known_kinds)

    def kind_number(self, number: int) -> int:
        """The index of a row's kind in `kinds`."""
        return self._kinds[number]

    def lines(self) -> Iterator[bytes]:
        """Yield every row's line, in order."""
        with self._lines.open("rb") as stream:
            yield from stream

    def rows(self, numbers: set[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield selected rows, in order."""
        for number, line in enumerate(self.lines()):
            if number in numbers:
                yield number, json.loads(line)

    def keys(self, selected: Sequence[bool]) -> Iterator[tuple[list[int], list[str]]]:
        """Yield row numbers and comparable keys of selected rows, in batches."""
        numbers: list[int] = []
        keys: list[str] = []
        size = 0
        with self._keys.open("rb") as stream:
            for number, line in enumerate(stream):
                if not selected[number]:
                    continue
                key = line.decode().removesuffix("\n")
                numbers.append(number)
                keys.append(key)
                size += len(key)
                if len(keys) >= BATCH or size > BATCH_CHARACTERS:
                    yield numbers, keys
                    numbers, keys, size = [], [], 0
        if keys:
            yield numbers, keys

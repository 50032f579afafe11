"""Read and write ARPA n-gram files; the writer sorts n-grams, the reader reports each fault with its line.

The format is that of SRILM's ngram-format(5): log10 probabilities, n-grams by order, counts in the header.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from thunder import digest
from thunder.acoustic.decoding.ngram import BEGIN, END, Ngram, NgramTable
from thunder.errors import ArtifactError, combined_error

_COUNT = re.compile(r"ngram (\d+)=(\d+)$")
_SECTION = re.compile(r"\\(\d+)-grams:$")
FIX = "create it again: thunder asr ngram TEXT --script nko|latin --out x.arpa"


def write_arpa(path: Path, model: Ngram) -> None:
    """Write a model atomically; n-grams are sorted, so the same model gives the same file."""
    digest.write_atomically(path, "".join(_arpa_lines(model)))


def _arpa_lines(model: Ngram) -> Iterator[str]:
    yield "\\data\\\n"
    yield from (f"ngram {n}={len(table.keys)}\n" for n, table in enumerate(model.tables, start=1))
    size = len(model.symbols)
    for n, table in enumerate(model.tables, start=1):
        yield f"\n\\{n}-grams:\n"
        columns = [(table.keys // size**place % size).tolist() for place in range(n - 1, -1, -1)]
        grams = (" ".join(map(model.symbols.__getitem__, gram)) for gram in zip(*columns, strict=True))
        for gram, log10, backoff in zip(grams, table.log10.tolist(), table.backoff.tolist(), strict=True):
            yield f"{log10:.7f}\t{gram}\n" if n == model.order else f"{log10:.7f}\t{gram}\t{backoff:.7f}\n"
    yield "\n\\end\\\n"


def read_arpa(path: Path) -> Ngram:
    """Read a model. Raises ArtifactError that reports every faulty line with its content and what was expected."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror or error}", FIX) from None
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path}: byte {error.start} is not UTF-8", FIX) from None
    reader = _ArpaReader(path)
    reader.read_lines(text.split("\n"))
    return reader.build_model()


class _ArpaReader:
    """Parses one file into n-grams by order, and collects faults."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.faults: list[str] = []
        self.counts: list[tuple[int, int]] = []  # (line, number of n-grams) by order
        self.grams: list[dict[tuple[str, ...], tuple[float, float]]] = []
        self.ended = False

    def add_fault(self, line: int, message: str) -> None:
        self.faults.append(f"{self.path}:{line}: {message}")

    def read_lines(self, lines: Iterable[str]) -> None:
        """Parse all lines and collect their faults."""
        in_data, number = False, 1
        for number, line in enumerate(lines, start=1):
            line = line.rstrip("\r")
            if self.ended and line.strip():
                self.add_fault(number, "text follows \\end\\")
                break
            if line == "\\data\\":
                in_data = True
            elif line == "\\end\\":
                self.ended = True
            elif not line.strip() or not in_data:
                continue  # text before \data\ is a comment
            elif match := _SECTION.match(line):
                self._section(number, int(match[1]))
            elif self.grams:
                self._gram(number, line)
            else:
                self._count(number, line)
        if not in_data:
            self.add_fault(1, "no \\data\\: this is not an ARPA file")
        elif not self.ended:
            self.add_fault(number, "the file ends without \\end\\: it is truncated")
        self._check_counts()

    def _count(self, number: int, line: str) -> None:
        match = _COUNT.match(line)
        if not match or int(match[1]) != len(self.counts) + 1:
            self.add_fault(number, f"expected 'ngram {len(self.counts) + 1}=COUNT', found {line[:60]!r}")
            return
        self.counts.append((number, int(match[2])))

    def _section(self, number: int, order: int) -> None:
        if order != len(self.grams) + 1 or order > len(self.counts):
            self.add_fault(
                number, f"section of {order}-grams, where the header announces orders 1 to {len(self.counts)}"
            )
        self.grams.append({})

    def _gram(self, number: int, line: str) -> None:
        order, fields = len(self.grams), line.split("\t")
        last = order >= len(self.counts)
        if len(fields) not in ((2,) if last else (2, 3)):
            expected = f"probability, n-gram{'' if last else ', back-off'}"
            return self.add_fault(number, f"expected {expected} between tabs, found {line[:60]!r}")
        gram = tuple(fields[1].split(" "))
        if len(gram) != order or not all(gram):
            return self.add_fault(number, f"{fields[1]!r} is not a {order}-gram")
        log10, backoff = _parse_number(fields[0]), _parse_number(fields[2]) if len(fields) == 3 else 0.0
        if not log10 <= 0.0:
            return self.add_fault(number, f"{fields[0]!r} is not the log10 of a probability")
        if not math.isfinite(backoff):
            return self.add_fault(number, f"{fields[2]!r} is not the log10 of a back-off weight")
        if gram in self.grams[-1]:
            return self.add_fault(number, f"{fields[1]!r} occurs twice")
        for part in (gram[:-1], gram[1:]) if order > 1 else ():
            if part not in self.grams[-2]:
                return self.add_fault(number, f"{fields[1]!r} without {' '.join(part)!r} among the {order - 1}-grams")
        self.grams[-1][gram] = log10, backoff

    def _check_counts(self) -> None:
        """Compare the counts in the header with the n-grams that were read."""
        if self.faults:
            return
        for order, (line, count) in enumerate(self.counts, start=1):
            actual = len(self.grams[order - 1]) if order <= len(self.grams) else 0
            if actual != count:
                self.add_fault(line, f"announces {count} {order}-grams, the file has {actual}")
        unigrams = self.grams[0] if self.grams else {}
        for symbol in (BEGIN, END):
            if (symbol,) not in unigrams:
                self.add_fault(self.counts[0][0] if self.counts else 1, f"no {symbol} among the 1-grams")

    def build_model(self) -> Ngram:
        """The model. Raises ArtifactError with all faults."""
        if self.faults:
            raise combined_error(ArtifactError, f"{self.path} cannot be used:", self.faults, FIX)
        symbols = tuple(sorted(gram[0] for gram in self.grams[0]))
        if len(symbols) ** len(self.grams) >= 1 << 63:
            raise ArtifactError(f"{self.path}: {len(self.grams)}-grams of {len(symbols)} symbols are too many", FIX)
        return Ngram(symbols, tuple(_pack_table(grams, symbols) for grams in self.grams))


def _parse_number(text: str) -> float:
    """A number in ARPA notation; NaN for any other text."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _pack_table(grams: dict[tuple[str, ...], tuple[float, float]], symbols: tuple[str, ...]) -> NgramTable:
    index = {symbol: position for position, symbol in enumerate(symbols)}
    keys = np.zeros(len(grams), np.int64)
    for column in zip(*grams, strict=True):
        keys = keys * len(symbols) + np.fromiter(map(index.__getitem__, column), np.int64, len(grams))
    order = np.argsort(keys)
    values = np.array(list(grams.values())).reshape(-1, 2)[order]
    return NgramTable(keys[order], values[:, 0], values[:, 1])

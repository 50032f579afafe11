"""Read clean text from files, and take a seeded sample of it in bounded memory."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from thunder.corpora.rows.correction_rows import RowSource
from thunder.corpora.rows.jsonl_lines import JsonLines, LineFault, LineFaults, Progress, json_object
from thunder.corpora.splits import eval_only
from thunder.corpora.splits.near_duplicates import comparable_key
from thunder.corpora.splits.split_by_reference import text_mark
from thunder.errors import CorpusError
from thunder.text.normalize import normalize_text, text_faults


@dataclass(frozen=True)
class CleanText:
    """A clean text (NFC, trimmed) and its place in the input."""

    text: str
    source: str

    @property
    def key(self) -> str:
        """The comparable key of the text."""
        return comparable_key(self.text)


@dataclass(frozen=True)
class ChosenTexts:
    """The sampled texts in the order of the files, the number of texts read, and counted reasons for the others."""

    chosen: list[CleanText]
    found: int
    sources: list[RowSource]
    left_out: dict[str, int]


def choose_texts(
    paths: Sequence[Path],
    column: str,
    most: int,
    seed: int,
    lengths: tuple[int, int],
    progress: Progress | None = None,
) -> ChosenTexts:
    """Sample at most `count` distinct texts, each with the same probability.

    Left out and counted: texts outside the lengths (code points), with faults such as mixed scripts, repeated, or
    sentences of a benchmark. Raises CorpusError for files that cannot be read, are a benchmark, or lack the column.
    """
    draw = random.Random(f"{seed}/texts")
    left_out: Counter[str] = Counter()
    sample: list[tuple[int, CleanText]] = []
    marks: set[int] = set()
    sources: list[RowSource] = []
    usable = 0
    for path in paths:
        bad = LineFaults()
        lines = JsonLines(path, bad, progress)
        rows = of_benchmark = 0
        for number, text in _column(lines, column, bad):
            text, rows = normalize_text(text).strip(), rows + 1
            key = comparable_key(text)
            reason = _rejection_reason(text, key, lengths)
            of_benchmark += reason == "sentences of a benchmark"
            if not reason and (mark := text_mark(key)) in marks:
                reason = "said already"
            if reason:
                left_out[reason] += 1
                continue
            marks.add(mark)
            usable += 1
            # reservoir sampling: each text so far has the same probability to be in the sample
            place = len(sample) if len(sample) < most else int(draw.random() * usable)
            if place < most:
                sample[place : place + 1] = [(usable, CleanText(text, f"{path.name}:{number}"))]
        if bad:
            raise bad.error(f"{path} cannot be used:", fix="correct these lines")
        eval_only.refuse_eval_only_file(path, lines.sha256, rows, of_benchmark)
        sources.append(RowSource(path, lines.sha256, lines.bytes, rows, f"text, {path.suffix.lstrip('.') or 'lines'}"))
    return ChosenTexts([text for _, text in sorted(sample, key=lambda item: item[0])], usable, sources, dict(left_out))


def _rejection_reason(text: str, key: str, lengths: tuple[int, int]) -> str:
    """Return why a text is not used, or an empty string."""
    if not lengths[0] <= len(text) <= lengths[1]:
        return "too short or too long"
    if eval_only.is_eval_only(text_mark(key)):
        return "sentences of a benchmark"
    return "with faults" if text_faults(text) else ""


def _column(lines: JsonLines, column: str, bad: LineFaults) -> Iterator[tuple[int, str]]:
    """Yield (line number, text) of a tab-separated file with a header, a JSONL file, or a file of plain lines."""
    kind = lines.path.suffix.lower()
    place = None
    for number, line in lines:
        try:
            if kind == ".jsonl":
                value = json_object(line).get(column)
                if not isinstance(value, str):
                    raise LineFault(f"'{column}' is missing or not a string")
                value.encode()
                yield number, value
                continue
            text = line.decode().rstrip("\r\n")
            if kind != ".tsv":
                yield number, text
                continue
            cells = text.split("\t")
            if place is None:
                if column not in cells:
                    raise CorpusError(f"{lines.path}: no column '{column}'", fix=f"--column {' | '.join(cells)[:200]}")
                place = cells.index(column)
            elif len(cells) <= place:
                raise LineFault(f"has {len(cells)} cells, too few for column '{column}'")
            else:
                yield number, cells[place]
        except UnicodeError:
            bad.add(f"{lines.path}:{number}: is not UTF-8")
        except LineFault as fault:
            bad.add(f"{lines.path}:{number}: {fault}")

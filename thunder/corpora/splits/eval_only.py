"""Recognize public benchmarks that are never used for training, by a file's digest and by each sentence's digest."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from thunder.config import REPOSITORY
from thunder.corpora.splits.near_duplicates import comparable_key
from thunder.corpora.splits.split_by_reference import text_mark
from thunder.errors import CorpusError

# FLORES-200 dev and devtest in N'Ko, Bambara, Dyula and English, from github.com/common-parallel-corpora/
# common-parallel-corpora at dbc2cd9, as one tab-separated file of 997 rows
FILES = {"7f32e1ef1cd8ba417ced36cd06a161b9fbc35b49f39c69cd2d1ca786600cfd76": "FLORES-200 (N'Ko, Bambara, Dyula)"}
# shortened digests of its sentences, one on each line; data/eval_only/README.md describes how they are made
SENTENCES = REPOSITORY / "data" / "eval_only" / "flores200.txt"
DIGITS = 12
# a file with a larger share of benchmark sentences counts as the benchmark, even if its bytes differ
LONGEST_SENTENCE = 0.5


def digest_line(text: str) -> str:
    """Return the line that represents a sentence: the shortened digest of its comparable key."""
    return f"{text_mark(comparable_key(text)):016x}"[:DIGITS]


@lru_cache(maxsize=1)
def _sentences() -> frozenset[int]:
    return frozenset(int(line, 16) for line in SENTENCES.read_text(encoding="ascii").split())


def is_eval_only(mark: int) -> bool:
    """Return whether a text is a benchmark sentence; mark: `text_mark` of its comparable key, 64 bits."""
    return mark >> (64 - 4 * DIGITS) in _sentences()


def refuse_eval_only_file(path: Path, sha256: str, rows: int, benchmark_rows: int) -> None:
    """Raise CorpusError if a training input is a benchmark: the file itself, or one made of its sentences."""
    if name := FILES.get(sha256):
        reason = f"is {name}"
    elif rows and benchmark_rows > LONGEST_SENTENCE * rows:
        reason = f"{benchmark_rows} of {rows} texts are of FLORES-200"
    else:
        return
    raise CorpusError(
        f"{path}: {reason}, a public benchmark that is for evaluation only", fix="train on other text; test on this one"
    )

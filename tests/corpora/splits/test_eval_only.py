"""Benchmark sentences: each one is recognized by its digest, and other text is not."""

import pytest
from conftest import SHARED_DATA, TEST_DATA, needs_shared_data

from thunder import digest
from thunder.corpora.splits import eval_only, near_duplicates
from thunder.corpora.splits.split_by_reference import text_mark


def lines_of_flores_are_known(text):
    source = text / "flores200_nqo_bam_dyu_eng_EVAL_ONLY.tsv"
    lines = source.read_text(encoding="utf-8").splitlines()[1:]
    sentences = [cell for line in lines for cell in line.split("\t")[1:4] if cell.strip()]
    assert all(eval_only.is_eval_only(text_mark(near_duplicates.comparable_key(sentence))) for sentence in sentences)
    others = (text / "wikipedia_nqo.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert not any(
        eval_only.is_eval_only(text_mark(near_duplicates.comparable_key(line.split("\t")[1]))) for line in others
    )
    return source, len(sentences), len(others)


def test_some_lines_of_flores_are_known():
    assert lines_of_flores_are_known(TEST_DATA / "text")[1:] == (36, 100)


@pytest.mark.slow
@needs_shared_data
def test_every_line_of_flores_is_known():
    source, *_ = lines_of_flores_are_known(SHARED_DATA / "text")
    assert digest.sha256_file(source) in eval_only.FILES

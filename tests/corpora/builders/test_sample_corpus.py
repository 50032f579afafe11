import json
from collections import Counter

import pytest
from conftest import REPOSITORY

from thunder import digest
from thunder.corpora.builders import sample_corpus
from thunder.corpora.rows.chat_rows import read_rows
from thunder.errors import CorpusError, UsageError
from thunder.text import distance
from thunder.text.chat import correction_messages
from thunder.text.normalize import normalize_text

SHIPPED = REPOSITORY / "data" / "sample"
SPLITS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    sample_corpus.write_sample_corpus(folder, sample_corpus.SEED)
    return folder


@pytest.fixture(scope="module")
def rows():
    return [json.loads(line) for split in SPLITS for line in (SHIPPED / f"{split}.jsonl").open(encoding="utf-8")]


@pytest.mark.expensive
@pytest.mark.parametrize("name", ["train.jsonl", "valid.jsonl", "test.jsonl", "README.md"])
def test_what_is_shipped_is_what_the_generator_makes(made, name):
    assert (SHIPPED / name).read_bytes() == (made / name).read_bytes()


@pytest.mark.parametrize("split", SPLITS)
def test_the_readme_has_each_files_digest_and_error_rate(split):
    readme = (SHIPPED / "README.md").read_text(encoding="utf-8")
    corpus = read_rows(SHIPPED / f"{split}.jsonl")
    assert digest.sha256_file(corpus.path) == corpus.sha256
    row = f"| {split}.jsonl | {len(corpus.rows)} | {corpus.errors_before.rate:.4f} | `{corpus.sha256}` |"
    assert row in readme


def test_the_counts(rows):
    assert [len(read_rows(SHIPPED / f"{split}.jsonl").rows) for split in SPLITS] == [320, 40, 60]
    assert len({row["id"] for row in rows}) == 420


def test_no_reference_stands_twice(rows):
    assert len({normalize_text(row["reference_text"]) for row in rows}) == len(rows)


def test_the_fields_agree_with_one_another(rows):
    for row in rows:
        errors = distance.count_errors(row["asr_text"], row["reference_text"])
        assert (row["cer_edits"], row["reference_chars"]) == (errors.edits, errors.reference_chars)
        assert row["messages"] == correction_messages(row["asr_text"], row["reference_text"])
        assert (row["origin"], row["evidence_class"]) == ("synthetic", "smoke")


@pytest.mark.parametrize("split", SPLITS)
def test_the_error_rate_is_that_of_a_weak_recognizer(split):
    assert 0.18 <= read_rows(SHIPPED / f"{split}.jsonl").errors_before.rate <= 0.25


def test_about_one_row_in_ten_is_right_already(rows):
    assert 0.06 <= sum(row["cer_edits"] == 0 for row in rows) / len(rows) <= 0.14


def test_sentences_are_short(rows):
    assert all(18 <= row["reference_chars"] <= 60 for row in rows)
    assert all(4 <= len(row["reference_text"].split()) <= 9 for row in rows)


def test_every_word_is_frequent_enough_to_be_learnt(rows):
    frequency = Counter(word for row in rows[:320] for word in row["reference_text"].split())
    assert min(frequency.values()) >= 5
    assert set(sample_corpus.PARTICLES) <= set(frequency)
    words = {word for entries in sample_corpus.LEXICON.values() for entry in entries for word in entry.split()}
    assert words | set(sample_corpus.WITH_MODIFIER.values()) <= set(frequency)
    assert 90 <= len(words | set(sample_corpus.PARTICLES)) <= 110


def test_l_after_a_nasal_is_na_woloso(rows):
    for row in rows:
        words = row["reference_text"].split()
        for before, word in zip(words, words[1:], strict=False):
            nasal = before.rstrip(sample_corpus.TONES).endswith(sample_corpus.NASAL_ENDS)
            assert not (nasal and word in ("ߟߊ߫", "ߟߋ߬", "ߟߎ߬"))
            assert nasal or word not in ("ߠߊ߫", "ߠߋ߬", "ߠߎ߬")


def test_references_are_in_normal_form(rows):
    assert all(row["reference_text"] == normalize_text(row["reference_text"]) for row in rows)


def test_another_seed_makes_other_rows_and_a_shorter_run_is_a_beginning():
    assert sample_corpus.generate_samples(1, 20) != sample_corpus.generate_samples(2, 20)
    assert sample_corpus.generate_samples(1, 20)[:5] == sample_corpus.generate_samples(1, 5)


def test_other_counts_are_said_in_the_readme(tmp_path):
    (file,) = sample_corpus.write_sample_corpus(tmp_path, 3, {"train": 5})
    assert (file.rows, file.path) == (5, tmp_path / "train.jsonl")
    assert "--seed 3 --train 5`" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_more_rows_than_the_grammar_has_are_refused(monkeypatch):
    monkeypatch.setattr(sample_corpus, "TEMPLATES", ("{after} ߸ {pronoun} {eat}",))
    with pytest.raises(UsageError, match="only 6 different sentences"):
        sample_corpus.generate_samples(1, 7)


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(CorpusError, match="taken"):
        sample_corpus.write_sample_corpus(tmp_path / "taken", 1, {"train": 1})

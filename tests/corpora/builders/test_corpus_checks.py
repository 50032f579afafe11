"""Checks of rows and corpora: oddities and leaks are counted, and error models are read or learned."""

import pytest
from conftest import write_rows
from planted_rows import GOOD, pairs

from thunder.corpora.builders.corpus_checks import correction_notes, count_leaks, learn_channel
from thunder.corpora.channels.error_channel import learn_error_channel
from thunder.corpora.rows.chat_rows import read_rows
from thunder.errors import ArtifactError, CorpusError


def corpus(folder, **parts):
    folder.mkdir()
    for part, texts in parts.items():
        write_rows(folder / f"{part}.jsonl", [{"reference_text": text} for text in texts])
    return folder


def test_leaks_of_training_and_validation_rows_are_counted(tmp_path):
    folder = corpus(
        tmp_path / "corpus",
        train=["xx ߓߊߓߏߓߌ xx", "yyyyyyyyyy", "zz ߞߊߞߏߞߌ zz"],
        valid=["qq ߞߊߞߏߞߌ qq", "vv ߓߊߓߏߓߌ vv"],
        test=["ߓߊߓߏߓߌ"],
    )
    # training: one shares with the test, one with the validation; validation: one shares with the test
    assert count_leaks(folder, {"settings": {"near_duplicate_chars": 6}})["near_duplicates"] == 3
    found = count_leaks(folder, {"settings": {"near_duplicate_chars": 12}})
    assert found["near_duplicates"] == 0
    assert (found["held_out_texts"], found["compared_texts"]) == (3, 5)


def test_texts_that_differ_by_few_edits_are_counted_apart(tmp_path):
    folder = corpus(tmp_path / "corpus", train=["ߓߊߓߏߓߊ", "ߞߊߞߏߞߌ"], test=["ߓߊߓߏߓߌ"])
    found = count_leaks(folder, {})
    assert (found["near_duplicates"], found["by_shared_stretch"], found["by_edits"]) == (1, 0, 1)
    assert found["looked_for"].startswith("20 shared code points, or edits up to 10%")
    assert count_leaks(folder, {"settings": {"near_duplicate_edits": 0.0}})["near_duplicates"] == 0


def test_a_reference_in_two_parts_is_an_error(tmp_path):
    folder = corpus(tmp_path / "corpus", train=["ߓߊ ߓߏ", "ߓߌ"], test=["ߓߊ  ߓߏ"])
    with pytest.raises(ArtifactError, match="is in test and in train") as caught:
        count_leaks(folder, {})
    assert caught.value.message.count("is in test and in train") == 1


def test_oddities_are_counted_for_correction_rows_only(tmp_path):
    rows = [GOOD, GOOD | {"feat_id": "f2", "partition": "unseen"}]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    assert correction_notes(read_rows(path), recompute=False) == {"unknown partition": 1}
    plain = write_rows(tmp_path / "pairs.jsonl", pairs(3))
    assert correction_notes(read_rows(plain), recompute=False) == {}


def test_a_channel_is_learned_from_rows_and_read_from_a_folder(tmp_path):
    rows = pairs(40)
    expected = learn_error_channel((row["before"], row["after"]) for row in rows)
    learned = learn_channel(write_rows(tmp_path / "rows.jsonl", rows))
    assert learned.changes == expected.changes and learned.insertions == expected.insertions
    (tmp_path / "confusions.json").write_text(learned.to_json(), encoding="utf-8")
    assert learn_channel(tmp_path) == learn_channel(tmp_path / "confusions.json") == learned
    with pytest.raises(CorpusError, match="no such file"):
        learn_channel(tmp_path / "none.jsonl")

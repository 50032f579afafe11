"""Predictions and references: they join by feat_id in any order, and a contradiction is a fault."""

import pytest
from conftest import write_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.corpora.rows.correction_rows import CorrectionReader
from thunder.errors import CorpusError


@pytest.fixture
def halves(tmp_path):
    def write(predictions, references):
        return (
            write_rows(tmp_path / "test_predictions.jsonl", predictions),
            write_rows(tmp_path / "test_references.jsonl", references),
        )

    return write


def join(paths):
    reader = CorrectionReader()
    rows = list(reader.joined(*paths))
    reader.finish()
    return rows, reader


IDS = [f"f{number}" for number in range(6)]


@given(st.permutations(IDS), st.permutations(IDS))
@settings(max_examples=30)
def test_halves_are_joined_whatever_their_order(tmp_path_factory, one, other):
    folder = tmp_path_factory.mktemp("run")
    predictions = write_rows(folder / "p.jsonl", [{"feat_id": name, "prediction": f"ߓ{name}"} for name in one])
    references = write_rows(folder / "r.jsonl", [{"feat_id": name, "ref": f"ߓߊ{name}"} for name in other])
    rows, reader = join((predictions, references))
    assert {(row["feat_id"], row["asr_text"], row["reference_text"]) for row in rows} == {
        (name, f"ߓ{name}", f"ߓߊ{name}") for name in IDS
    }
    assert [source.form for source in reader.sources] == ["predictions", "references"]
    assert {row["evidence_class"] for row in rows} == {"real_same_provenance"}


def test_halves_that_do_not_match_one_to_one(halves):
    paths = halves(
        [{"feat_id": "a", "hyp": "x"}, {"feat_id": "b", "hyp": "x"}, {"feat_id": "b", "hyp": "y"}, {"hyp": "z"}],
        [{"feat_id": "a", "ref": "x"}, {"feat_id": "c", "ref": "x"}],
    )
    with pytest.raises(CorpusError) as caught:
        join(paths)
    said = caught.value.message
    assert "test_predictions.jsonl:3: feat_id 'b' is already used at line 2" in said
    assert "test_predictions.jsonl:2: feat_id 'b' is not in" in said
    assert "test_references.jsonl:2: feat_id 'c' is not in" in said
    assert "test_predictions.jsonl:4: has no 'feat_id'" in said


def test_halves_that_contradict_each_other(halves):
    paths = halves(
        [{"feat_id": "a", "hyp": "x", "audio_id": "1"}, {"feat_id": "b", "asr_text": "x", "reference_text": "y"}],
        [{"feat_id": "a", "ref": "x", "audio_id": "2"}, {"feat_id": "b", "reference_text": "z"}],
    )
    with pytest.raises(CorpusError) as caught:
        join(paths)
    assert "'audio_id' is '1' in the prediction and '2' in the reference" in caught.value.message
    assert "'reference_text' differs between prediction and reference" in caught.value.message

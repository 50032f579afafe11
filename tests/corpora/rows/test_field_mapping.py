"""Fields get the names of `--fields`."""

import pytest

from thunder.corpora.rows.chat_rows import read_rows
from thunder.corpora.rows.field_mapping import FieldMapping, parse_field_mapping
from thunder.corpora.rows.jsonl_lines import LineFault
from thunder.errors import CorpusError, UsageError


def test_no_mapping_changes_nothing():
    fields = {"a": 1}
    assert not parse_field_mapping(None) and parse_field_mapping("").apply(fields) == fields


def test_fields_and_fields_inside_them_are_renamed():
    mapping = parse_field_mapping("hyp=asr.text, ref=gold,id=a.b")
    assert mapping.names == {"hyp": "asr.text", "ref": "gold", "id": "a.b"}
    fields = {"asr": {"text": "x"}, "gold": "y", "a.b": 3, "other": 1}
    assert mapping.apply(fields) == {"asr": {"text": "x"}, "other": 1, "hyp": "x", "ref": "y", "id": 3}


def test_names_can_be_exchanged():
    assert FieldMapping({"hyp": "ref", "ref": "hyp"}).apply({"hyp": 1, "ref": 2}) == {"hyp": 2, "ref": 1}


def test_a_row_without_any_of_the_fields_is_read_as_it_is():
    assert FieldMapping({"hyp": "a"}).apply({"hyp": 1}) == {"hyp": 1}


def test_a_row_with_some_of_the_fields_is_a_fault():
    with pytest.raises(LineFault, match="has no field 'gold' \\(--fields ref=gold\\); found 'a'"):
        FieldMapping({"hyp": "a", "ref": "gold"}).apply({"a": 1})


@pytest.mark.parametrize("text", ["hyp", "hyp=", "=a", "hyp=a,,ref=b", "hyp=a,hyp=b"])
def test_a_mapping_that_is_written_otherwise(text):
    with pytest.raises(UsageError, match="--fields"):
        parse_field_mapping(text)


def test_a_mapped_pair_wins_over_messages_and_other_pairs(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"messages": [], "before": "x", "after": "y", "heard": "ߓ", "said": "ߓߊ", "key": 5}\n')
    corpus = read_rows(path, mapping=parse_field_mapping("hyp=heard,ref=said,id=key"))
    (row,) = corpus.rows
    assert (row.asr_text, row.reference, row.row_id) == ("ߓ", "ߓߊ", "5")
    assert corpus.unused == {"before": 1, "after": 1}
    with pytest.raises(CorpusError):
        read_rows(path)


def test_chosen_answers_can_be_trained_on(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    corpus = read_rows(path, mapping=parse_field_mapping("prompt=prompt,completion=chosen"))
    assert corpus.rows[0].reference == "b" and corpus.unused == {"rejected": 1}

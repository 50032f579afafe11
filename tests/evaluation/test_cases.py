"""Rows as cases: what is read of a row, and what is refused by name."""

from __future__ import annotations

import pytest
from conftest import write_rows

from thunder.corpora.rows.field_mapping import FieldMapping
from thunder.errors import CorpusError
from thunder.evaluation import cases

PAIR = {"asr_text": "ߊߋ", "reference_text": "ߊߌ"}


def rows(count, **more):
    return [PAIR | {"feat_id": f"f{number}"} | more for number in range(count)]


@pytest.mark.parametrize("row", [
    {"before": "ߊߋ", "after": "ߊߌ"}, {"hyp": "ߊߋ", "ref": "ߊߌ"}, PAIR,
    {"messages": [{"role": "user", "content": "Correct this N'Ko transcript:\nߊߋ"},
                  {"role": "assistant", "content": "ߊߌ"}]},
])  # fmt: skip
def test_shapes_of_rows(tmp_path, row):
    [case] = cases.read_cases(write_rows(tmp_path / "r.jsonl", [row])).cases
    assert (case.input, case.reference, case.row_id, case.script) == ("ߊߋ", "ߊߌ", "r-1", "nko")
    assert case.messages == ({"role": "user", "content": "Correct this N'Ko transcript:\nߊߋ"},)


def test_fields_of_a_correction_row(tmp_path):
    [case] = cases.read_cases(
        write_rows(tmp_path / "r.jsonl", rows(1, partition="boundary", script="n", origin="x"))
    ).cases
    assert (case.partition, case.script, case.fields["origin"]) == ("boundary", "n", "x")


def test_strange_partitions_are_unknown_and_counted(tmp_path):
    file = write_rows(tmp_path / "r.jsonl", rows(1, partition="stabel") + [PAIR | {"id": "x", "partition": 3}])
    read = cases.read_cases(file)
    assert [case.partition for case in read.cases] == ["unknown", "unknown"]
    assert read.unknown_partitions == {"stabel": 1, "3": 1}


def test_the_limit_takes_the_first_and_keeps_all_ids(tmp_path):
    read = cases.read_cases(write_rows(tmp_path / "r.jsonl", rows(5)), limit=2)
    assert [case.row_id for case in read.cases] == ["f0", "f1"]
    assert read.all_ids == {"f0", "f1", "f2", "f3", "f4"}


def test_ids_that_stand_twice_are_named(tmp_path):
    with pytest.raises(CorpusError, match="id 'f0' occurs 2 times"):
        cases.read_cases(write_rows(tmp_path / "r.jsonl", rows(2) + rows(1)))


@pytest.mark.parametrize("row", [
    {"hyp": "a", "ref": ""}, {"asr_text": "a", "reference_text": " \n"},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]},
])  # fmt: skip
def test_an_empty_reference_can_be_evaluated(tmp_path, row):
    [case] = cases.read_cases(write_rows(tmp_path / "r.jsonl", [row])).cases
    assert (case.reference.strip(), case.script) == ("", "none")


@pytest.mark.parametrize("text, script", [
    ("ߊ߬ abc", "mixed"), ("߁߂ ߊ", "nko"), ("ɲɛɔ", "latin"), ("سلام", "other"), ("12 !", "none"), ("", "none"),
])  # fmt: skip
def test_scripts(text, script):
    assert cases.script_of_letters(text) == script


def test_fields_of_other_names_are_mapped(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("key,heard,said\n7,ߓߊ,ߓߊ߬\n", encoding="utf-8")
    read = cases.read_cases(path, mapping=FieldMapping({"hyp": "heard", "ref": "said", "id": "key"}))
    assert [(case.row_id, case.input, case.reference) for case in read.cases] == [("7", "ߓߊ", "ߓߊ߬")]

"""Files of a run as far as they can be read: each part that cannot be read is reported once."""

from __future__ import annotations

import json

import pytest

from thunder.report.run_files import RunFiles, get_int, get_number, get_object, get_text


@pytest.mark.parametrize("text, fault", [
    (None, "is missing"), ("{", "is not JSON"), ("[]", "is not a JSON object"), ("[" * 100_000, "is not JSON"),
])  # fmt: skip
def test_a_json_file_that_cannot_be_read_is_reported(tmp_path, text, fault):
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    folder = RunFiles(tmp_path)
    assert folder.json("a.json", "no figures") == {} and folder.json("a.json", "") == {}
    assert folder.absent == [f"a.json {fault}: no figures"]
    assert folder.has("a.json") is (text is not None)


def test_lines_that_can_be_read_are_kept_and_three_faults_are_listed(tmp_path):
    lines = ['{"step": 1}', *["[]"] * 5, '{"step": 2}']
    (tmp_path / "m.jsonl").write_text("\n".join(lines) + "\n")
    folder = RunFiles(tmp_path)
    assert folder.lines("m.jsonl", "no loss") == [{"step": 1}, {"step": 2}]
    (report,) = folder.absent
    assert report.endswith(", and 2 more: left out")
    assert [f"m.jsonl:{number}:" in report for number in range(1, 8)] == [False, True, True, True, False, False, False]


def test_a_file_without_lines_and_one_that_is_missing(tmp_path):
    (tmp_path / "m.jsonl").write_text("")
    folder = RunFiles(tmp_path)
    assert folder.lines("m.jsonl", "no loss") == folder.lines("n.jsonl", "no rows") == folder.lines("n.jsonl", "") == []
    assert folder.absent == [
        "m.jsonl holds no line that can be read: no loss", "n.jsonl is missing: no rows"
    ]  # fmt: skip


@pytest.mark.parametrize("written, number, whole", [
    ("1", 1.0, 1), ("1.5", 1.5, None), ("true", None, None), ("NaN", None, None), ("Infinity", None, None),
    ('"1"', None, None), ("null", None, None), ("1" + "0" * 400, None, 10**400),
])  # fmt: skip
def test_numbers_that_are_none_are_none(written, number, whole):
    content = json.loads(f'{{"x": {written}}}')
    assert (get_number(content, "x"), get_int(content, "x")) == (number, whole)
    assert get_number({}, "x") is get_int({}, "x") is None


def test_texts_and_objects_at_a_path():
    content = {"id": 3, "row_id": "a", "test": {"repair": {"rows": 2}, "cer": 0.5}}
    assert get_text(content, "id", "row_id") == "a" and get_text(content, "id") is None
    assert get_object(content, "test", "repair") == {"rows": 2}
    assert get_object(content, "test", "cer", "rows") == get_object(content, "no") == {}

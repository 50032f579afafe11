import json
import os

import jiwer
import pytest
from conftest import TEST_DATA, shipped_and_whole, write_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_rows import GOOD

from thunder.corpora.rows import correction_rows
from thunder.corpora.rows.correction_rows import FIELDS, CorrectionReader, row_script
from thunder.errors import CorpusError
from thunder.text.normalize import text_faults


def read(path, **options):
    reader = CorrectionReader(**options)
    rows = list(reader.file(path))
    reader.finish()
    return rows, reader


def refusal(path, **options):
    with pytest.raises(CorpusError) as caught:
        read(path, **options)
    assert caught.value.exit_code == 2 and caught.value.fix
    return caught.value.message


@pytest.fixture
def file(tmp_path):
    def write(*rows):
        return write_rows(tmp_path / "rows.jsonl", list(rows))

    return write


def test_a_correction_row_keeps_all_that_it_says(file):
    (row,), reader = read(file(GOOD | {"wer": 1.0, "speaker": {"age": 3}}))
    assert {key: row[key] for key in GOOD if key != "split"} == {key: GOOD[key] for key in GOOD if key != "split"}
    assert (row["source_split"], row["wer"], row["speaker"]) == ("test", 1.0, {"age": 3})
    assert (row["schema"], row["origin"]) == ("thunder.correction/1", "real")
    assert (row["evidence_class"], row["source"]) == ("real_same_provenance", "rows.jsonl:1")
    assert not reader.notes


@pytest.mark.parametrize("key", FIELDS)
def test_a_missing_field_is_named(file, key):
    row = {name: value for name, value in GOOD.items() if name != key}
    # without its id or its texts a row is not known for a correction row at all
    if key == "feat_id":
        assert read(file(row))[0][0]["feat_id"] == "rows-1"
    else:
        assert f"rows.jsonl:1: lacks '{key}'" in refusal(file(row))


def test_all_missing_fields_are_named_at_once(file):
    assert "lacks 'audio_id', 'mode'" in refusal(file({k: v for k, v in GOOD.items() if k not in ("audio_id", "mode")}))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("asr_text", 3, "'asr_text' is a number, not a text"),
        ("reference_text", ["ߓ"], "'reference_text' is a list, not a text"),
        ("cer_edits", 1.0, "'cer_edits' is a number, not a whole number"),
        ("cer_edits", True, "'cer_edits' is true or false, not a whole number"),
        ("reference_chars", "3", "'reference_chars' is a text, not a whole number"),
        ("feat_id", None, "'feat_id' is null, not a text"),
        ("partition", 1, "'partition' is a number, not a text or null"),
        ("trajectory_scalars", [1.0], "'trajectory_scalars' is a list, not an object or null"),
        ("trajectory_scalars", {"novelty": "high"}, "'novelty' is 'high', not a finite number"),
        ("evidence_class", "hearsay", "'evidence_class' is 'hearsay'; known are oracle"),
        ("schema", "thunder.correction/9", "is of schema 'thunder.correction/9'"),
        ("reference_text", " \n", "'reference_text' is empty"),
    ],
)
def test_a_value_that_cannot_be(file, key, value, said):
    assert f"rows.jsonl:1: {said}" in refusal(file(GOOD | {key: value})).replace("'trajectory_scalars': ", "")


@pytest.mark.parametrize(("key", "claim", "ours"), [("cer_edits", 2, 1), ("reference_chars", 9, 3)])
def test_counts_that_are_not_ours_are_faults_with_both_numbers_or_recomputed(file, key, claim, ours):
    path = file(GOOD | {key: claim})
    assert f"'{key}' is {claim}, but counted in NFC it is {ours}" in refusal(path)
    (row,), reader = read(path, recompute=True)
    assert row[key] == ours
    assert reader.notes == {f"'{key}' recomputed": 1}


def test_marks_in_another_order_are_no_edits_and_are_counted(file):
    row = GOOD | {
        "asr_text": "ߓߊ\u07ec\u07f2",
        "reference_text": "ߓߊ\u07f2\u07ec",
        "cer_edits": 0,
        "reference_chars": 4,
    }
    (read_row,), reader = read(file(row))
    assert read_row["asr_text"] == read_row["reference_text"] == "ߓߊ\u07f2\u07ec"
    assert reader.notes == {"texts not in NFC": 1}


@pytest.mark.parametrize("partition", ["unseen", None, "unknown"])
def test_an_unknown_partition_is_kept_as_unknown_and_counted(file, partition):
    (row,), reader = read(file(GOOD | {"partition": partition}))
    assert row["partition"] == "unknown"
    assert row.get("source_partition") == ("unseen" if partition == "unseen" else None)
    assert reader.notes == {"unknown partition": 1}


def test_ids_that_stand_twice(file):
    assert "rows.jsonl:3: feat_id 'f1' is already used at rows.jsonl:1" in refusal(
        file(GOOD, GOOD | {"feat_id": "f2"}, GOOD)
    )


@pytest.mark.parametrize("key", ["asr_text", "reference_text", "mode", "speaker"])
def test_half_of_a_surrogate_pair_anywhere(tmp_path, key):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GOOD | {key: "ߓ\ud800"}) + "\n", encoding="ascii")
    assert f"'{key}'" in (said := refusal(path)) and "half of a surrogate pair" in said
    said.encode()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have(tmp_path, number):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GOOD)[:-1] + f', "loss": {number}}}\n', encoding="utf-8")
    assert "'loss' has a number that is not finite" in refusal(path)


def test_byte_order_mark_windows_line_ends_and_blank_lines_are_counted(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(GOOD, ensure_ascii=False), "", json.dumps(GOOD | {"feat_id": "f2"}, ensure_ascii=False)]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n")
    rows, reader = read(path)
    assert [row["feat_id"] for row in rows] == ["f1", "f2"]
    assert reader.notes == {"byte order mark": 1, "Windows line ends": 2, "blank lines": 1}


def test_scripts_mixed_in_a_word_and_nothing_recognized_are_counted(file):
    mixed = GOOD | {"asr_text": "ߓaߊ", "cer_edits": 2}
    silent = GOOD | {"feat_id": "f2", "asr_text": "", "cer_edits": 3}
    assert read(file(mixed, silent))[1].notes == {"scripts mixed in a word": 1, "nothing recognised": 1}


@pytest.mark.parametrize(("text", "script"), [("ߓߊ a", "nko"), ("bɔ ߓ", "latin"), ("12 !", "other")])
def test_the_script_of_a_text(text, script):
    assert row_script(text) == script


def test_the_first_twenty_faults_and_a_count(file):
    said = refusal(file(*[{"asr_text": "x", f"field {number}": 1} for number in range(33)], GOOD))
    assert said.count("rows.jsonl:") == 20 and "and 13 more" in said


def test_lines_with_one_fault_are_one_line(file):
    said = refusal(file(*[{"asr_text": "x"}] * 33, GOOD))
    assert said.count("rows.jsonl:") == 1 and "(also lines 2, 3, 4 and 29 more)" in said


def test_whole_numbers_are_ids_too(file):
    rows, reader = read(file(GOOD | {"feat_id": 7, "audio_id": 12}))
    assert (rows[0]["feat_id"], rows[0]["audio_id"]) == ("7", "12")
    assert "'feat_id' is [1], not a text or a whole number" in refusal(file(GOOD | {"feat_id": [1]}))


@pytest.mark.parametrize("row", [
    {"pred_text": "ߓߊ", "text": "ߓߊ߬", "audio_filepath": "a.wav", "duration": 1.0},
    {"prediction": "ߓߊ", "reference": "ߓߊ߬"},
    {"asr_candidate": "ߓߊ", "reference": "ߓߊ߬", "n_best": ["ߓߊ", "ߓ"]},
    {"input": ["ߓߊ", "ߓ"], "output": "ߓߊ߬"},
    {"hypotheses": [{"text": "ߓߊ", "score": -1.0}, {"text": "ߓ"}], "reference": "ߓߊ߬"},
])  # fmt: skip
def test_rows_of_other_toolkits(file, row):
    rows, _ = read(file(row))
    assert (rows[0]["asr_text"], rows[0]["reference_text"], rows[0]["cer_edits"]) == ("ߓߊ", "ߓߊ߬", 1)
    for key in ("n_best", "audio_filepath", "duration"):
        assert rows[0].get(key) == row.get(key) or key == "n_best"
    assert ("n_best" in rows[0]) == any(isinstance(value, list) for value in row.values())


def test_a_file_that_is_a_folder_or_not_there(tmp_path):
    for path in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(CorpusError, match="folder|No such file"):
            read(path)


@settings(max_examples=60)
@given(st.text("abߊߓ\u07eb\u07f2 ", max_size=12), st.text("abߊߓ\u07eb\u07f2 ", min_size=1, max_size=12))
def test_edits_are_those_of_jiwer(tmp_path_factory, heard, reference):
    if not reference.strip():
        return
    path = write_rows(tmp_path_factory.mktemp("rows") / "pairs.jsonl", [{"hyp": heard, "ref": reference}])
    ((row,), _) = read(path)
    plain = {"reference_transform": jiwer.cer_default, "hypothesis_transform": jiwer.cer_default}
    if row["reference_text"] == row["reference_text"].strip() and row["asr_text"] == row["asr_text"].strip():
        counted = jiwer.process_characters(row["reference_text"], row["asr_text"], **plain)
        assert row["cer_edits"] == counted.substitutions + counted.deletions + counted.insertions


@pytest.mark.parametrize(
    ("path", "rows", "key"),
    [
        *shipped_and_whole("rows/nqo_human_edits_v1_to_v4.jsonl", 372, "cer_cp", whole=(4459, "cer_cp")),
        (TEST_DATA / "rows" / "bam_asr_hyp_ref_nemo_log.jsonl", 1352, "cer"),
    ],
)
def test_logged_error_rates_of_real_rows_are_ours(path, rows, key):
    found, reader = read(path)
    assert len(found) == rows
    assert not any("not edits" in note for note in reader.notes)
    assert all(abs(row[key] - row["cer_edits"] / row["reference_chars"]) <= 5.01e-5 for row in found)


def test_a_pipe_can_be_read(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    if os.fork() == 0:
        with path.open("w", encoding="utf-8") as stream:
            stream.write(json.dumps(GOOD) + "\n")
        os._exit(0)
    assert len(read(path)[0]) == 1
    os.wait()


@settings(max_examples=200)
@given(st.text("aɔ1 .ߓߊ\u07eb\u07f2\u07f8\u07fa\u07fb\u200f\ufffd'", max_size=8))
def test_the_quick_look_at_a_text_overlooks_nothing(text):
    if correction_rows._plain(text):
        assert [fault for fault in text_faults(text) if fault.kind != "not in normal form C"] == []

"""Rows of recordings: the fields of real metadata, folders and files, and every fault of an input at once."""

from __future__ import annotations

import json

import pytest
from conftest import shipped_and_whole, write_rows

from thunder.acoustic.features.recordings import RecordingReader, input_digest
from thunder.errors import CorpusError


def audio_files(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not looked at yet")


def read(*inputs):
    reader = RecordingReader()
    return reader.read(list(inputs)), reader.faults


@pytest.mark.parametrize(
    ("folder", "count", "texts"),
    [
        *shipped_and_whole("speech/en_digits", 70, 70, whole=(350, 350)),
        *shipped_and_whole("speech/en_prompts", 4, 4, whole=(217, 217)),
        *shipped_and_whole("speech/maninka_va", 4, 0, whole=(72, 0)),
    ],
)
def test_real_metadata(folder, count, texts):
    found, faults = read(folder)
    assert len(found) == count and not faults
    assert sum(one.text is not None for one in found) >= texts
    assert all(one.id == one.path.stem and one.speaker and len(one.sha256) == 64 for one in found)
    assert all("lang" in one.extra and "transcript" not in one.extra for one in found)


def test_fields_and_their_other_names(tmp_path):
    audio_files(tmp_path, "a.flac", "sub/b.wav")
    rows = [
        {"id": "one", "path": "a.flac", "text": "ߒߞߏ", "speaker": "awa", "split": "test", "duration": 1.5},
        {"audio_filepath": "sub/b.wav", "sentence": "", "speaker_id": 1089, "sha256": None, "lang": "bm"},
    ]
    (first, second), faults = read(write_rows(tmp_path / "rows.jsonl", rows))
    assert not faults
    assert (first.id, first.text, first.speaker, first.split, first.extra) == (
        "one",
        "ߒߞߏ",
        "awa",
        "test",
        {"duration": 1.5},
    )
    assert (second.id, second.text, second.speaker, second.sha256) == ("sub/b", "", "1089", None)
    assert second.path == tmp_path / "sub" / "b.wav" and second.extra == {"lang": "bm"}


def test_folders_and_files_of_audio(tmp_path):
    audio_files(tmp_path, "b.flac", "a.WAV", "deep/a.ogg", "notes.txt")
    assert [one.id for one in read(tmp_path)[0]] == ["a", "b", "deep/a"]
    assert [one.id for one in read(tmp_path / "deep" / "a.ogg", tmp_path / "b.flac")[0]] == ["a", "b"]


def test_all_faults_of_all_rows(tmp_path):
    audio_files(tmp_path, "a.flac")
    good = {"audio": "a.flac"}
    rows = [good, good | {"id": "x", "text": 3}, {"text": "no audio"}, good | {"id": "y", "audio": "none.flac"}, good]
    rows += [good | {"id": ""}, good | {"id": "z", "speaker": True}, good | {"id": "z2", "audio": {"bytes": ""}}]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    with path.open("a") as stream:
        stream.write('{"audio": "a.flac", "id": "cu')
    found, faults = read(path)
    assert [one.id for one in found] == ["a"] and faults.count == 8
    for said in (
        "rows.jsonl:2: 'text' is a number, expected a text",
        "rows.jsonl:3: names no recording: expected one of 'audio', 'path'",
        "none.flac",
        "rows.jsonl:5: id 'a' was already used at",
        "rows.jsonl:6: its id is empty",
        "rows.jsonl:7: 'speaker' is true or false, expected a text",
        "rows.jsonl:8: 'audio' is an object, expected a text",
        "rows.jsonl:9: looks cut off: not JSON",
    ):
        assert any(said in fault for fault in faults.first), said


def test_nothing_is_no_input(tmp_path):
    for inputs in ([], [tmp_path]):
        with pytest.raises(CorpusError, match="no recordings"):
            read(*inputs)
    with pytest.raises(CorpusError, match="No such file"):
        read(tmp_path / "none.jsonl")


def test_the_digest_of_an_input_is_not_that_of_its_place(tmp_path):
    digests = []
    for place, text in (("a", "x"), ("b", "x"), ("c", "y")):
        audio_files(tmp_path / place, "a.flac")
        path = tmp_path / place / "metadata.jsonl"
        path.write_text(json.dumps({"audio": "a.flac", "text": text}) + "\n")
        digests.append(input_digest(read(path)[0]))
    assert digests[0] == digests[1] != digests[2]

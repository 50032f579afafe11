"""Rows of recordings: the fields of real metadata, folders and files, and every fault of an input at once."""

from __future__ import annotations

import json

import manifest_folders
import pytest
from conftest import shipped_and_whole, write_rows

from thunder.acoustic.features.recordings import Recording, RecordingReader, Segment, input_digest, load_recording
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


def test_files_of_one_name_keep_their_suffix_in_the_id(tmp_path):
    audio_files(tmp_path, "a.flac", "a.m4a", "b.wav", "deep/a.wav")
    found, faults = read(tmp_path)
    assert sorted(one.id for one in found) == ["a.flac", "a.m4a", "b", "deep/a"] and not faults


def test_files_that_are_passed_over_are_counted_by_suffix(tmp_path):
    audio_files(tmp_path, "b.flac", "c.m4a", "notes.txt", "deep/more.TXT", "x.mid")
    reader = RecordingReader()
    assert [one.id for one in reader.read([tmp_path])] == ["b", "c"]
    assert reader.notes == [f"{tmp_path}: files that are no recordings were passed over: 1 .mid, 2 .txt"]
    (tmp_path / "b.flac").unlink()
    (tmp_path / "c.m4a").unlink()
    with pytest.raises(CorpusError, match=r"no recordings\n.*1 .mid, 2 .txt"):
        RecordingReader().read([tmp_path])


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
        "rows.jsonl:8: 'audio' holds the sound itself and no 'path'",
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


def test_ids_of_absolute_paths_do_not_hold_them(tmp_path):
    audio_files(tmp_path, "far/awa/1.wav", "far/sira/1.wav", "far/sira/2.wav")
    paths = [str(tmp_path / "far" / name) for name in ("awa/1.wav", "sira/1.wav", "sira/2.wav")]
    found = read(write_rows(tmp_path / "a.jsonl", [{"audio": path} for path in paths[1:]]))[0]
    assert [one.id for one in found] == ["1", "2"]
    found, faults = read(write_rows(tmp_path / "b.jsonl", [{"audio": path} for path in paths]))
    assert [one.id for one in found] == ["awa/1", "sira/1", "sira/2"] and not faults


def test_the_digest_of_an_input_is_of_its_segments(tmp_path):
    audio_files(tmp_path, "a.wav")
    rows = [{"audio": "a.wav", "offset": offset, "id": "x"} for offset in (0, 1, 1.0)]
    digests = [input_digest(read(write_rows(tmp_path / "rows.jsonl", [row]))[0]) for row in rows]
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    ("segment", "stated", "seconds"),
    [
        (None, None, 1.0), (None, 1.05, 1.0), (Segment(channel=0), 1.0, 1.0), (Segment(0.25, 0.5), None, 0.5),
        (Segment(0.75), None, 0.25), (Segment(0.0, 0.25), None, 0.25),
    ],
)  # fmt: skip
def test_the_sound_of_a_row_is_its_piece(tmp_path, segment, stated, seconds):
    path = manifest_folders.write_tone(tmp_path / "a.wav", seconds=1.0)
    found = load_recording(Recording("a", path, "here", segment=segment, seconds=stated))
    assert found.seconds == pytest.approx(seconds) and len(found.samples) == round(seconds * 16000)


@pytest.mark.parametrize("more", [{"segment": Segment(0.9, 0.5)}, {"segment": Segment(channel=2)}, {"seconds": 1.5}])
def test_a_row_that_contradicts_its_file(tmp_path, more):
    path = manifest_folders.write_tone(tmp_path / "a.wav", seconds=1.0)
    with pytest.raises(CorpusError, match=r"a\.wav: (is 1\.00 s long|has 1 channel)"):
        load_recording(Recording("a", path, "here", **more))

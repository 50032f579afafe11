"""`thunder asr transcribe`: the same rows as the test of a run on the same sounds; what cannot be heard is named."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from untrained_head import WORDS, write_head, write_sounds

from thunder.acoustic.head import head_file
from thunder.cli import main as cli

REFERENCE = {"split", "reference_text", "cer_edits", "reference_chars", "wer_edits", "reference_words",
             "edits_by_partition", "character_partitions"}  # fmt: skip


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    return write_sounds(tmp_path_factory.mktemp("sounds"), WORDS)


@pytest.fixture(scope="module", params=["fp16", "int8"])
def untrained(request, sounds, tmp_path_factory):
    return write_head(tmp_path_factory.mktemp("head"), sounds, "latin", request.param)


def rows_of(capsys, *words) -> list[dict]:
    capsys.readouterr()
    assert cli.main(["asr", *map(str, words)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("batch_size", [2, 8])
def test_the_rows_are_those_of_an_evaluation(untrained, sounds, tmp_path, capsys, batch_size):
    path, features = untrained
    words = ["eval", "--run", path, "--features", features, "--out", tmp_path, "--json"]
    assert cli.main(["asr", *map(str, words)]) == 0
    tested = [json.loads(line) for line in (tmp_path / "test_predictions.jsonl").read_text().splitlines()]
    found = rows_of(capsys, "transcribe", sounds, "--run", path, "--batch-size", batch_size, "--json")
    assert [row["feat_id"] for row in found] == list(WORDS)
    for row, other in zip(found, sorted(tested, key=lambda row: row["feat_id"]), strict=True):
        assert REFERENCE.isdisjoint(row)
        for name in set(other) - REFERENCE - {"audio_id", "ttt_drift", "ttt_capped", "trajectory_scalars"}:
            assert row[name] == other[name], name
        for name, value in other["trajectory_scalars"].items():
            assert row["trajectory_scalars"][name] == pytest.approx(value, abs=1e-6)
        assert row["ttt_drift"] == pytest.approx(other["ttt_drift"], rel=1e-4)


def test_rows_are_written_for_the_correction(untrained, sounds, tmp_path, capsys):
    path, _ = untrained
    out = tmp_path / "rows.jsonl"
    assert cli.main(["asr", "transcribe", str(sounds / "a.flac"), "--run", str(path), "--out", str(out)]) == 0
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert capsys.readouterr().out == f"{sounds / 'a.flac'}\t{row['asr_text']}\t{row['confidence']:.2f}\n"
    assert row["seconds"] == 9000 / 16000 and row["partition"] in ("stable", "boundary", "uncertain", "novelty")


def test_what_cannot_be_heard_is_named_and_left_out_on_request(untrained, sounds, tmp_path, capsys):
    path, _ = untrained
    (tmp_path / "torn.flac").write_bytes((sounds / "b.flac").read_bytes()[:300])
    (tmp_path / "text.wav").write_text("no sound")
    words = ["asr", "transcribe", *map(str, (sounds / "a.flac", tmp_path / "torn.flac", tmp_path / "text.wav"))]
    assert cli.main([*words, "--run", str(path)]) == 2
    heard = capsys.readouterr()
    said = heard.err
    assert "torn.flac" in said and "text.wav" in said and "--keep-going" in said
    assert heard.out.startswith(f"{sounds / 'a.flac'}\t") and heard.out.count("\n") == 1  # the others are written
    assert cli.main([*words, "--run", str(path), "--keep-going"]) == 0
    heard = capsys.readouterr()
    assert heard.out.startswith(f"{sounds / 'a.flac'}\t") and heard.out.count("\n") == 1
    assert heard.err.count("left out:") == 2


def test_a_silent_recording_has_no_text_and_every_text_a_confidence(untrained, sounds, tmp_path, capsys):
    path, _ = untrained
    noise = np.random.default_rng(0).integers(-1, 2, 16000).astype(np.int16)  # as a muted microphone has it
    soundfile.write(tmp_path / "muted.wav", noise, 16000)
    rows = rows_of(capsys, "transcribe", tmp_path / "muted.wav", sounds / "a.flac", "--run", path, "--json")
    assert rows[0]["asr_text"] == "" and rows[0]["confidence"] == 1 and rows[0]["notes"] == ["is silent"]
    assert rows[1]["asr_text"] and 0 < rows[1]["confidence"] < 1


def test_a_channel_is_chosen(untrained, sounds, tmp_path, capsys):
    path, _ = untrained
    left, _ = soundfile.read(sounds / "a.flac")
    soundfile.write(tmp_path / "a.flac", np.stack([left, -left], 1), 16000)
    assert cli.main(["asr", "transcribe", str(tmp_path / "a.flac"), "--run", str(path)]) == 2
    assert "opposite phase" in (said := capsys.readouterr().err) and "--channel 0" in said
    (row,) = rows_of(capsys, "transcribe", tmp_path / "a.flac", "--run", path, "--channel", 0, "--json")
    (mono,) = rows_of(capsys, "transcribe", sounds / "a.flac", "--run", path, "--json")
    assert row["asr_text"] == mono["asr_text"] and row["notes"] == ["is channel 0 of 2"]


@pytest.mark.expensive
def test_more_than_30_seconds_are_heard_in_windows_or_refused(untrained, tmp_path, capsys):
    path, _ = untrained
    soundfile.write(tmp_path / "long.wav", np.random.default_rng(0).standard_normal(16000 * 31) * 0.1, 16000)
    words = ["asr", "transcribe", str(tmp_path / "long.wav"), "--run", str(path)]
    assert cli.main(words) == 0
    assert cli.main([*words, "--long-audio", "refuse"]) == 2
    assert "31.0 s long" in capsys.readouterr().err


def test_a_head_over_whisper_asks_for_its_weights(untrained, sounds, tmp_path, capsys):
    found = head_file.load_head(untrained[0])
    recipe = found.origin.recipe | {"kind": "whisper", "model": "0" * 64}
    origin = head_file.HeadOrigin(found.origin.settings, found.origin.width, recipe, "0" * 64)
    head_file.save_head(tmp_path / "best.safetensors", found.model, found.statistics, origin)
    assert cli.main(["asr", "transcribe", str(sounds), "--run", str(tmp_path / "best.safetensors")]) != 0
    assert "--whisper FOLDER" in capsys.readouterr().err

"""Recognition from Python: one transcript a recording, in order, and recordings that cannot be read."""

from __future__ import annotations

import json

import pytest
from untrained_head import NKO_WORDS, write_head, write_sounds

from thunder import recognize
from thunder.api.recognition import recognizer_checkpoint
from thunder.cli.main import main
from thunder.errors import CorpusError, UsageError


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    return write_sounds(tmp_path_factory.mktemp("sounds"), NKO_WORDS)


@pytest.fixture(scope="module")
def head(sounds, tmp_path_factory):
    return write_head(tmp_path_factory.mktemp("head"), sounds, "nko")[0]


def test_transcripts_are_those_of_the_command(sounds, head, capsys):
    counts = []
    result = recognize(sounds, run=head, on_recording=lambda *count: counts.append(count))
    assert [each.id for each in result.transcripts] == list(NKO_WORDS) and result.left_out == ()
    assert counts == [(number, 5) for number in range(1, 6)]
    capsys.readouterr()
    assert main(["asr", "transcribe", str(sounds), "--run", str(head), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each.id, each.text) for each in result.transcripts] == [(row["feat_id"], row["asr_text"]) for row in rows]


def test_a_recording_that_cannot_be_read_is_refused_or_left_out(sounds, head, tmp_path):
    (tmp_path / "torn.flac").write_bytes((sounds / "b.flac").read_bytes()[:100])
    inputs = [sounds / "a.flac", tmp_path / "torn.flac"]
    with pytest.raises(CorpusError, match="torn.flac"):
        recognize(inputs, run=head)
    result = recognize(inputs, run=head, keep_going=True)
    assert [each.id for each in result.transcripts] == ["a"]
    (left_out,) = result.left_out
    assert "torn.flac" in left_out


def test_a_run_is_named_by_its_id_or_by_its_file(head, tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path))
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "config.yaml").write_text("{}")
    assert recognizer_checkpoint("one") == tmp_path / "one" / "best.safetensors"
    assert recognizer_checkpoint(str(head)) == head
    with pytest.raises(UsageError, match="no run 'two'"):
        recognizer_checkpoint("two")

"""From recordings to admissible text from Python: the rows of every stage agree with each other."""

from __future__ import annotations

import hashlib
import json

import pytest
from untrained_head import NKO_WORDS, write_head, write_sounds

from thunder import recognize, transcribe
from thunder.errors import UsageError


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    return write_sounds(tmp_path_factory.mktemp("sounds"), NKO_WORDS)


@pytest.fixture(scope="module")
def head(sounds, tmp_path_factory):
    return write_head(tmp_path_factory.mktemp("head"), sounds, "nko")[0]


def test_texts_that_are_left_alone_are_those_that_were_recognized(sounds, head, tmp_path):
    recognized = recognize(sounds, run=head)
    result = transcribe(sounds, run=head, engine="identity", dev_key=True, out=tmp_path / "out")
    assert result.folder == tmp_path / "out" and result.breaker is None
    assert [(each.id, each.recognized) for each in result.recordings] == [
        (each.id, each.text) for each in recognized.transcripts
    ]
    for each in result.recordings:
        assert each.text == each.recognized and each.decision == ("keep" if each.recognized else "silent")
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert stored == json.loads(json.dumps(result.results)) and stored["recordings"] == 5
    assert stored["keep"] + stored["silent"] == 5
    for name, sha256 in stored["files"].items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == sha256
    lines = [json.loads(line) for line in (tmp_path / "out" / "decisions.jsonl").read_text().splitlines()]
    assert lines == [json.loads(json.dumps(line)) for line in result.lines]
    with pytest.raises(UsageError, match="holds the results of another command"):
        transcribe(sounds, run=head, engine="identity", dev_key=True, out=tmp_path / "out")

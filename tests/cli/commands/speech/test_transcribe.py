"""`thunder transcribe`: from sounds to signed text; the rows of every stage agree with each other."""

from __future__ import annotations

import json

import pytest
from untrained_head import NKO_WORDS, write_head, write_sounds

from thunder import digest
from thunder.bridge.proof import keys
from thunder.cli import main as cli


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    return write_sounds(tmp_path_factory.mktemp("sounds"), NKO_WORDS)


@pytest.fixture(scope="module")
def head(sounds, tmp_path_factory):
    return write_head(tmp_path_factory.mktemp("head"), sounds, "nko")[0]


@pytest.fixture(autouse=True)
def key(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(keys.KEY_FILE_VARIABLE, str(tmp_path / "keys.json"))
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    assert cli.main(["agp", "key", "new"]) == 0
    capsys.readouterr()


def transcribe(head, out, *words, code=0):
    assert cli.main(["transcribe", "--run", str(head), "--out", str(out), *map(str, words)]) == code
    return [read(out / name) for name in ("transcripts.jsonl", "decisions.jsonl")]


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_is_left_alone_comes_out_as_it_was_heard(head, sounds, tmp_path, capsys):
    heard, decided = transcribe(head, tmp_path / "out", sounds, "--engine", "identity")
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row["feat_id"] for row in heard] == [line["id"] for line in decided] == list(NKO_WORDS)
    for row, line, words in zip(heard, decided, printed, strict=True):
        assert line["final_text"] == row["asr_text"] == words[1] and line["audio"] == row["audio"] == words[0]
        assert line["decision"] == ("keep" if row["asr_text"] else "silent")
        assert line["partition"] == row["partition"] and line["partition_source"] == "given"
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["recordings"] == 5 and results["keep"] + results["silent"] == 5
    for name, sha256 in results["files"].items():
        assert digest.sha256_file(tmp_path / "out" / name) == sha256


def test_the_log_and_the_tokens_hold(head, sounds, tmp_path, capsys):
    _, decided = transcribe(head, tmp_path / "out", sounds, "--engine", "identity")
    log = tmp_path / "out" / "provenance.jsonl"
    signed = [line for line in decided if line["token"]]
    assert cli.main(["agp", "verify", "--log", str(log)]) == 0
    for line in signed:
        words = ["agp", "verify", "--log", str(log), "--token", line["token"], "--output"]
        assert cli.main([*words, line["final_text"]]) == 0
        assert cli.main([*words, line["final_text"] + "ߊ"]) == 4
    records = read(log)
    assert len([each for each in records if each["record"]["kind"] == "decision"]) == len(decided)


def test_a_bad_proposer_is_rejected_and_nothing_changes(head, sounds, tmp_path, capsys):
    proposals = tmp_path / "bad.jsonl"
    lines = [json.dumps({"id": name, "proposal": "in English now", "confidence": 0.0}) for name in NKO_WORDS]
    proposals.write_text("\n".join(lines))
    heard, decided = transcribe(head, tmp_path / "out", sounds, "--engine", f"file:{proposals}")
    for row, line in zip(heard, decided, strict=True):
        assert line["decision"] == "reject" and line["final_text"] == row["asr_text"] and line["token"] is None


@pytest.mark.expensive
def test_the_tiny_model_proposes(head, sounds, tmp_path, capsys, tiny_model):
    _, decided = transcribe(head, tmp_path / "out", sounds / "a.flac", "--model", tiny_model)
    assert decided[0]["proposal"] and decided[0]["decision"] in ("accept", "reject", "keep")


def test_what_is_wrong_is_said_before_anything_is_heard(head, sounds, tmp_path, capsys, monkeypatch):
    words = ["transcribe", str(sounds), "--run", str(head), "--out", str(tmp_path / "out")]
    assert cli.main([*words, "--engine", "oracle"]) == 2
    assert cli.main([*words, "--engine", "identity", "--gate", str(tmp_path / "none.yaml")]) == 2
    monkeypatch.delenv(keys.KEY_FILE_VARIABLE)
    assert cli.main([*words, "--engine", "identity"]) != 0
    said = capsys.readouterr().err
    assert "no such engine" in said and "none.yaml" in said and keys.KEY_FILE_VARIABLE in said
    assert not (tmp_path / "out").exists()

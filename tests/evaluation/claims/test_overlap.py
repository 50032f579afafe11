"""Rows, texts, passages and recordings that training and validation have in common."""

from __future__ import annotations

import json

import pytest
from training_rows import table

from thunder.errors import CorpusError
from thunder.evaluation.claims import memorization, overlap


def write(path, rows):
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows), encoding="utf-8")
    return path


def test_rows_in_common(tmp_path):
    long = "a stretch of text that is long enough to be no chance"
    words = " ".join("abcdefghijklmnop")
    train = [{"id": "1", "text": "ߊߓߋ"}, {"id": "2", "text": f"one. {long}"}, {"id": "3", "text": f"x {words}"},
             {"messages": [{"role": "user", "content": "said"}, {"role": "x", "content": "Meant"}]}]  # fmt: skip
    val = [{"id": "1", "text": "ߊߓߋ"}, {"id": "9", "text": "ߊߓߋ"}, {"id": "8", "text": f"{long}, two"},
           {"id": "7", "text": f"{words} y"}, {"id": "6", "text": "nothing of it"}]  # fmt: skip
    found = overlap.find_overlap(write(tmp_path / "t", train), write(tmp_path / "v", val))
    assert (found.validation, found.rows, found.near, found.example) == (5, 1, 2, "'1'")
    assert found.texts >= 1
    assert found.audios == 0
    heard = [{"id": "a", "audio_id": "x", "text": "ߞߊ"}, {"id": "b", "audio_id": None, "text": "ߟߊ"}]
    again = [{"id": "c", "audio_id": "x", "text": "ߡߊ"}, {"id": "d", "audio_id": None, "text": "ߣߊ"}]
    found = overlap.find_overlap(write(tmp_path / "t", heard), write(tmp_path / "v", again))
    assert (found.rows, found.texts, found.near, found.audios) == (0, 0, 0, 1)
    assert memorization.judge_training(table(), found).verdict == "leak_suspected"
    chat = write(tmp_path / "c", train[3:])
    assert overlap.find_overlap(chat, chat).rows == 1
    with pytest.raises(CorpusError, match="v:2: not a row"):
        overlap.find_overlap(chat, write(tmp_path / "v", [train[0], {"number": 1}]))

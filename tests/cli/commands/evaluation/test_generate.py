"""`thunder generate`: texts as words or on stdin, plain or JSON."""

from __future__ import annotations

import io
import json
import sys

import pytest

from thunder.cli.main import main

pytestmark = pytest.mark.expensive


class Stdin(io.TextIOWrapper):
    """Standard input that is no terminal."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))


def test_words_and_stdin_are_answered_alike(tiny_model, monkeypatch, capsys):
    texts = ["ߊ߬ ߞߊ ߓߊ", "ߓߊ"]
    assert main(["generate", "--model", str(tiny_model), "--json", *texts]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["input"] for each in told] == texts and all(each["tokens"] > 0 for each in told)
    monkeypatch.setattr(sys, "stdin", Stdin("\n".join([texts[0], "", texts[1]]).encode()))
    assert main(["generate", "--model", str(tiny_model), "--json"]) == 0
    piped = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["text"] for each in piped] == [told[0]["text"], "", told[1]["text"]]


def test_bytes_that_are_no_text_are_named_with_their_line(tiny_model, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Stdin(b"a\n\xff\xfe\n"))
    assert main(["generate", "--model", str(tiny_model)]) == 2
    assert "stdin, line 2: not UTF-8" in capsys.readouterr().err

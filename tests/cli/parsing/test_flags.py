"""Flags from settings: names, aliases and the hidden names that options had before."""

from __future__ import annotations

import pytest
import typer
from renamed_settings import Now
from typer.testing import CliRunner

from thunder.cli.parsing.flags import flags
from thunder.errors import UsageError


def called(*words):
    """Run a command with the flags of `Now`; returns the values that it was given, and the printed text."""
    calls, app = [], typer.Typer()

    @app.command()
    @flags(Now)
    def command(given: dict) -> None:
        calls.append(given)

    runner = CliRunner(env={"COLUMNS": "200"})
    result = runner.invoke(app, [str(word) for word in words], catch_exceptions=False)
    return (calls[0] if calls else None), result.output


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (("--chunk-words", 6), {"chunk_words": 6}),
        (("--words", 6), {"chunk_words": 6}),
        (("--window", 6), {"chunk_words": 6}),
        (("--ignore-check",), {"ignore_check": True}),
        (("--unsafe",), {"ignore_check": True}),
        (("--no-unsafe",), {"ignore_check": False}),
        (("--paths", "a", "--paths", "b"), {"files": ["a", "b"]}),
        ((), {}),
    ],
)
def test_old_names_stay_flags(words, values):
    assert called(*words)[0] == values


def test_help_lists_aliases_and_no_old_name():
    _, text = called("--help")
    assert "--chunk-words" in text and "--words" in text and "--ignore-check" in text
    assert "--window" not in text and "--unsafe" not in text and "--paths" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--window", 6, "--chunk-words", 6), "--window and --chunk-words are the same option"),
        (("--ignore-check", "--no-unsafe"), "--unsafe and --ignore-check are the same option"),
    ],
)
def test_both_names_of_an_option_are_refused(words, said):
    with pytest.raises(UsageError) as error:
        called(*words)
    assert said in str(error.value)

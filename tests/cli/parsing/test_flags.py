"""Flags from settings: names, aliases and the hidden names that options had before."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from thunder import digest
from thunder.cli.parsing.flags import flags
from thunder.config import Settings, SettingsLayer, build_settings, option, option_names, with_current_names
from thunder.errors import ConfigError, UsageError


class Before(Settings):
    """Settings as an earlier version had them."""

    window: int = option(0, "Words of a piece.")
    unsafe: bool = option(False, "Skip a check.")
    paths: list[str] = option([], "Files.")


class Now(Settings):
    """The same settings after a rename of each field."""

    chunk_words: int = option(0, "Words of a piece.", aliases=["words"], old_names=["window"])
    ignore_check: bool = option(False, "Skip a check.", old_names=["unsafe"])
    files: list[str] = option([], "Files.", old_names=["paths"])


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


@pytest.mark.parametrize("key", ["window", "chunk_words", "words"])
def test_old_names_stay_keys_of_files_and_of_stored_settings(key):
    settings, sources = build_settings(Now, [SettingsLayer("run.yaml", {key: 6, "paths": ["a"]})])
    assert (settings.chunk_words, settings.files, sources["chunk_words"]) == (6, ["a"], "run.yaml")
    assert option_names(Now)[key] == "chunk_words"


def test_stored_settings_of_an_earlier_version_are_read():
    stored = Before(window=6, unsafe=True, paths=["a"]).resolved()
    now = Now(chunk_words=6, ignore_check=True, files=["a"])
    assert Now.model_validate(stored) == now and Now(**stored) == now
    assert with_current_names(Now, stored) == now.resolved()


def test_a_rename_keeps_the_digest_of_the_settings():
    before = Before(window=6, paths=["a"])
    assert before.digest() == digest.sha256_json(before.resolved())
    assert Now(chunk_words=6, files=["a"]).digest() == before.digest() != Now().digest()


def test_old_and_new_name_in_one_source_are_refused():
    with pytest.raises(ConfigError, match="'window' and 'chunk_words' are the same option"):
        build_settings(Now, [SettingsLayer("run.yaml", {"chunk_words": 6, "window": 6})])
    with pytest.raises(ValueError, match="window"):
        Now.model_validate({"chunk_words": 6, "window": 6})


def test_a_hint_for_a_misspelt_name_is_a_current_one():
    with pytest.raises(ConfigError) as error:
        build_settings(Now, [SettingsLayer(str(Path("run.yaml")), {"windo": 6, "chunk_word": 6})])
    assert "Did you mean 'chunk_words'?" in str(error.value) and "'window'" not in str(error.value)

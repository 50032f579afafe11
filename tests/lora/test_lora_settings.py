"""Options of LoRA training under the names that earlier versions gave them."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from thunder.cli.parsing.flags import flags
from thunder.config import SettingsLayer, build_settings, load_yaml
from thunder.lora.lora_settings import LoraSettings

RENAMED = [("window", "chunk_words", 6), ("unsafe_shape", "ignore_memory_check", True)]


@pytest.mark.parametrize(("old", "new", "value"), RENAMED)
def test_old_names_are_read_from_files_and_keep_the_digest(tmp_path, old, new, value):
    """A config.yaml of an earlier version has the old name; its checkpoints have the digest under that name."""
    path, shown = tmp_path / "config.yaml", str(value).lower()
    settings = []
    for name in (old, new):
        path.write_text(f"{name}: {shown}\n")
        settings.append(build_settings(LoraSettings, [SettingsLayer(str(path), load_yaml(path))])[0])
    assert settings[0] == settings[1] and getattr(settings[0], new) == value
    assert LoraSettings.model_validate({old: value}) == settings[0]
    assert settings[0].digest() != LoraSettings().digest(), "it decides what a checkpoint is of, as before"


def given_to_train(*words):
    """The values that the flags of `thunder train` give, and the text that was printed."""
    calls, app = [], typer.Typer()

    @app.command()
    @flags(LoraSettings)
    def command(given: dict) -> None:
        calls.append(given)

    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, list(words), catch_exceptions=False)
    return calls[0] if calls else None, result.output


def test_old_flags_still_work_and_help_does_not_list_them():
    assert given_to_train("--window", "6", "--unsafe-shape")[0] == {"chunk_words": 6, "ignore_memory_check": True}
    assert given_to_train("--chunk-words", "6", "--ignore-memory-check")[0] == {
        "chunk_words": 6,
        "ignore_memory_check": True,
    }
    _, text = given_to_train("--help")
    assert "--chunk-words" in text and "--ignore-memory-check" in text
    assert "--window" not in text and "--unsafe-shape" not in text

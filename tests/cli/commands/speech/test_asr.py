"""`thunder asr`: the names of its commands, each with help of its own."""

from __future__ import annotations

import pytest
import typer

from thunder.cli.commands.speech.asr import app
from thunder.cli.main import main

NAMES = ("features", "merge", "verify", "train", "transcribe", "ngram", "synthesize", "eval")


def test_the_commands_are_these_and_one_old_name():
    commands = typer.main.get_command(app).commands
    shown = {name for name, command in commands.items() if not command.hidden}
    assert shown == set(NAMES) and set(commands) - shown == {"synthesise"}


@pytest.mark.parametrize("name", NAMES)
def test_each_has_help(name, capsys):
    assert main(["asr", name, "--help"]) == 0
    assert f"asr {name}" in capsys.readouterr().out

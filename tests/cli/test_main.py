"""The command line as a whole: every command is in a group of the help, and `./launch.sh --help` shows them first."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys

import pytest
from conftest import REPOSITORY
from typer.main import get_command

from thunder import __version__
from thunder.cli import main as cli


def help_of(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "thunder", *words, "--help"],
        capture_output=True, text=True, timeout=60, env={"PYTHONPATH": str(REPOSITORY), "COLUMNS": "100"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.expensive
def test_launch_help_shows_the_commands_in_groups_then_examples_then_options():
    text = help_of("launch")
    places = [text.index(title) for title in (*cli.GROUPS, "Examples", "Where it runs")]
    assert places == sorted(places)
    for name in cli.PANELS:
        assert re.search(rf"^  {name} ", text, re.MULTILINE), name
    for name in cli.HIDDEN:
        assert not re.search(rf"^  {name} ", text[: text.index("Examples")], re.MULTILINE), name
    assert all(command in text for command, _ in cli.EXAMPLES) and len(cli.EXAMPLES) == 3


@pytest.mark.expensive
def test_the_list_of_commands_is_in_groups_too():
    text = help_of()
    assert all(title in text for title in cli.GROUPS)
    assert all(re.search(rf"│ {name} ", text) for name in cli.PANELS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_a_module_and_help(name):
    module, text = cli.COMMANDS[name]
    assert get_command(importlib.import_module(module).app).help
    assert text.endswith(".") and "\n" not in text


@pytest.mark.parametrize("command", [command for command, _ in cli.EXAMPLES])
def test_the_examples_use_flags_that_exist(command):
    words = shlex.split(command)[1:]
    name = words[0] if words and not words[0].startswith("-") else "launch"
    known = {flag for param in get_command(importlib.import_module(cli.COMMANDS[name][0]).app).params
             for flag in (*param.opts, *param.secondary_opts)}  # fmt: skip
    assert {word for word in words if word.startswith("--")} <= known


def test_the_version_needs_no_command(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__

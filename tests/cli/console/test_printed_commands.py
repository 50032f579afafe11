"""Printed commands can be typed: by console scripts where these are on the PATH, else by ./launch.sh."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from thunder.cli.console.printed_commands import as_typed


@pytest.mark.parametrize(
    ("printed", "typed"),
    [
        ("thunder_status", "./launch.sh status"),
        ("run ./launch.sh setup in the project there; then thunder_status", None),
        ("`thunder asr merge x`, then thunder calibrate", "`./launch.sh asr merge x`, then ./launch.sh calibrate"),
        ("my_thunder_status and /opt/thunder", "my_thunder_status and /opt/thunder"),
        ("eval_agp_nko_adapter --rows r", "./launch.sh eval --rows r"),
    ],
)
def test_without_scripts_on_the_path_commands_are_those_of_launch_sh(printed, typed, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert as_typed(printed) == (typed or printed.replace("thunder_status", "./launch.sh status"))


def test_with_scripts_on_the_path_they_stay(tmp_path, monkeypatch):
    script = tmp_path / "thunder"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert as_typed("thunder_status; thunder asr eval") == "thunder_status; thunder asr eval"


@pytest.mark.expensive
def test_an_error_prints_the_command_that_works():
    environ = os.environ | {"PATH": "/usr/bin:/bin"}
    words = [sys.executable, "-P", "-m", "thunder", "corpus", "build", "--out", "x"]
    done = subprocess.run(words, cwd=REPOSITORY, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "thunder corpus" not in done.stderr, done.stderr

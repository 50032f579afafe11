"""Texts that commands print, and readers that have gone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from thunder.cli.console.output import say


def test_a_text_is_printed_as_a_line(capsys):
    say("ߒߞߏ")
    assert capsys.readouterr().out == "ߒߞߏ\n"


@pytest.mark.expensive
def test_a_reader_that_has_gone_ends_the_command_quietly():
    code = "from thunder.cli.console.output import say\nimport typer\n"
    code += "try:\n    say('x')\nexcept typer.Exit as end:\n    raise SystemExit(40 + end.exit_code)\n"
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        done = subprocess.run([sys.executable, "-c", code], stdout=gone, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (40, b"")

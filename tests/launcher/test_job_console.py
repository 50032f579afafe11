"""Consoles of a job: the silent one shows nothing."""

from __future__ import annotations

from thunder.launcher.job_console import SilentConsole


def test_a_silent_console_shows_nothing(capsys):
    console = SilentConsole()
    console.say("x")
    with console.display(3) as display:
        display.show_line("x")
        display.show_progress(done=1)
    assert capsys.readouterr() == ("", "")

"""`thunder shapes` in this process."""

from __future__ import annotations

from thunder.cli.main import main


def said(capsys, *words):
    assert main(["shapes", *words]) == 0
    return capsys.readouterr().out

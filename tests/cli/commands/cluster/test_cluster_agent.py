"""`thunder agent`: it serves stdin and stdout, ends with the agent's code, and outlives a terminal that closes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from thunder.cli import main as cli
from thunder.cli.commands.cluster import agent as command


@pytest.mark.parametrize("code", [0, 1, 7])
def test_the_exit_code_is_that_of_the_agent(code, monkeypatch):
    served, ignored = [], []
    streams = {"stdin": SimpleNamespace(fileno=lambda: 20), "stdout": SimpleNamespace(fileno=lambda: 21)}
    monkeypatch.setattr(command, "sys", SimpleNamespace(**streams))
    monkeypatch.setattr(command.signal, "signal", lambda *words: ignored.append(words))
    monkeypatch.setattr(command.agent, "serve_rank", lambda *ends: served.append(ends) or code)
    assert cli.main(["agent"]) == code
    assert served == [(20, 21)] and ignored == [(signal.SIGHUP, signal.SIG_IGN)]


@pytest.mark.expensive
def test_a_launcher_that_leaves_at_once_ends_it():
    done = subprocess.run(
        [sys.executable, "-m", "thunder", "agent"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
        env=os.environ, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and b"Traceback" not in done.stderr

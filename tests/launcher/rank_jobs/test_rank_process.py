"""The process of a rank: the table of its jobs, and the exit code that it ends with."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from thunder.launcher.rank_jobs.rank_process import JOBS


@pytest.mark.parametrize("name", JOBS)
def test_every_job_is_a_function_with_a_docstring(name):
    module, function = JOBS[name]
    assert getattr(importlib.import_module(module), function).__doc__


RANK = """
import sys
from pathlib import Path
from types import ModuleType
from thunder.errors import ClusterError
from thunder.launcher.rank_jobs import rank_process
from thunder.training.loop_settings import RuntimeOverrides

def end(setup):
    setup.record.event("done", rank=setup.world.rank, size=setup.world.size)
    if sys.argv[2] == "error":
        raise ClusterError("no rows left", fix="name others")
    if sys.argv[2] == "bug":
        raise KeyError("messages")

module = ModuleType("job_for_test")
module.end = end
sys.modules["job_for_test"] = module
rank_process.JOBS["test"] = ("job_for_test", "end")
rank_process.run_rank(Path(sys.argv[1]), "test", RuntimeOverrides())
"""


@pytest.mark.expensive
@pytest.mark.parametrize("way, code, message", [
    ("well", 0, None), ("error", 6, "no rows left"), ("bug", 1, "KeyError: 'messages'"),
])  # fmt: skip
def test_a_rank_ends_with_the_exit_code_of_its_job_and_reports_its_error(tmp_path, way, code, message):
    reading, writing = os.pipe()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("THUNDER_", "MLX_"))}
    environ |= {"THUNDER_EVENTS_FD": str(writing)}
    command = [sys.executable, "-c", RANK, str(tmp_path), way]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environ, pass_fds=[writing], capture_output=True, text=True, timeout=100
    )
    os.close(writing)
    with os.fdopen(reading) as stream:
        events = [json.loads(line) for line in stream]
    assert done.returncode == code, done.stderr
    assert [(event["rank"], event["size"]) for event in events if event["event"] == "done"] == [(0, 1)]
    assert [event["message"] for event in events if event["event"] == "error"] == ([message] if message else [])
    assert (message or "") in done.stderr

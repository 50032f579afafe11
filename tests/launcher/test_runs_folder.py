"""The folder of all runs, and runs by their names."""

from __future__ import annotations

import pytest

from thunder.config import REPOSITORY
from thunder.errors import UsageError
from thunder.launcher.runs_folder import run_folder, runs


def test_the_environment_names_the_folder_of_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path))
    assert runs() == tmp_path
    monkeypatch.setenv("THUNDER_RUNS", "")
    assert runs() == REPOSITORY / "runs"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("THUNDER_RUNS", "~/mine")
    assert runs() == tmp_path / "mine"


def test_a_run_by_its_id_its_folder_or_as_the_latest(tmp_path, monkeypatch):
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    started, evaluation = tmp_path / "runs" / "20260101-run", tmp_path / "elsewhere"
    for folder, name in ((started, "config.yaml"), (evaluation, "results.json")):
        folder.mkdir(parents=True)
        (folder / name).write_text("{}")
    (tmp_path / "runs" / "latest").symlink_to(started.name)
    assert [run_folder(name) for name in ("20260101-run", str(started), "latest")] == [started] * 3
    assert run_folder(str(evaluation)) == evaluation
    with pytest.raises(UsageError, match="no run 'other' in .*newest: 20260101-run"):
        run_folder("other")

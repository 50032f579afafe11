"""The project's committed files for a machine without a clone."""

from __future__ import annotations

import subprocess

import pytest

from thunder.errors import UsageError
from thunder.rental.checkout import export_checkout


def git(folder, *words):
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, timeout=60)


def test_committed_files_are_written_and_no_others(tmp_path):
    repository, target = tmp_path / "repository", tmp_path / "target"
    (repository / "deep").mkdir(parents=True)
    target.mkdir()
    git(repository, "init")
    (repository / "deep" / "ߞߊ.txt").write_text("committed")
    (repository / "run.sh").write_text("#!/bin/sh\n")
    (repository / "run.sh").chmod(0o755)
    git(repository, "add", ".")
    git(repository, "commit", "-m", "first")
    (repository / "deep" / "ߞߊ.txt").write_text("changed")
    (repository / "secret.txt").write_text("not committed")
    export_checkout(repository, target)
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert files == {"deep/ߞߊ.txt", "run.sh"}
    assert (target / "deep" / "ߞߊ.txt").read_text() == "committed"
    assert (target / "run.sh").stat().st_mode & 0o100


def test_a_folder_that_is_no_checkout_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="is not a git checkout"):
        export_checkout(tmp_path / "folder", tmp_path / "folder")

"""The environment of a run: versions, the machine, and the commit with what differs from it."""

import hashlib
import json
import os
import subprocess
from importlib import metadata

from thunder.runs.records import environment
from thunder.version import __version__


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_and_what_differs_from_it(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "a.txt").write_text("one\n")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "-q", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "untracked.txt").write_text("x")
    assert environment.current_commit(tmp_path) == {"commit": commit, "dirty": False}
    assert environment.uncommitted_digest(tmp_path) is None
    (tmp_path / "a.txt").write_text("two\n")
    assert environment.current_commit(tmp_path) == {"commit": commit, "dirty": True}
    assert (
        environment.uncommitted_digest(tmp_path) == hashlib.sha256(git(tmp_path, "diff", "HEAD").encode()).hexdigest()
    )


def test_without_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment.current_commit(tmp_path) == {"commit": None, "dirty": None}
    assert environment.uncommitted_digest(tmp_path) is None


def test_versions_are_those_of_the_installed_packages(monkeypatch):
    monkeypatch.setattr(environment, "RECORDED_PACKAGES", ("numpy", "no-such-package-here"))
    versions = environment.package_versions()
    assert versions["numpy"] == metadata.version("numpy") and versions["thunder"] == __version__
    assert versions["no-such-package-here"] == "(not installed)"


def test_the_blas_and_its_threads():
    environ = {"LD_PRELOAD": "/usr/lib/libopenblas.so.0", "OPENBLAS_NUM_THREADS": "4"}
    assert environment.blas_name(environ) == "libopenblas.so.0 4"
    assert environment.blas_name({}) == ""


def test_the_record_can_be_stored(tmp_path):
    record = environment.describe_environment(tmp_path)
    assert json.loads(json.dumps(record)) == record
    assert {"versions", "system", "machine", "chip", "cores", "commit", "dirty", "diff_sha256"} == record.keys()
    assert record["chip"] and 1 <= record["cores"] <= os.cpu_count()

"""Digests of files on another host, by what that host has: sha256sum, or shasum as a Mac."""

import hashlib
import shutil

import pytest

from thunder.cluster.ssh import remote_digests
from thunder.cluster.ssh.client import LocalConnection
from thunder.errors import ClusterError


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "a folder"
    (made / "inner").mkdir(parents=True)
    (made / "inner" / "with space.bin").write_bytes(bytes(range(256)) * 500)
    (made / "empty").write_bytes(b"")
    (made / "'quoted' $HOME").write_text("x")
    return made


def expected(folder):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_each_file_and_none_that_is_not_there(folder):
    names = [*expected(folder), "missing", "inner"]
    assert remote_digests.remote_file_digests(LocalConnection(), str(folder), names) == expected(folder)


@pytest.mark.skipif(not shutil.which("shasum"), reason="no shasum (perl) here")
def test_a_machine_without_sha256sum(folder, tmp_path, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "shasum", "perl", "env"):
        if shutil.which(name):
            (tools / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(tools))
    assert shutil.which("sha256sum") is None
    assert remote_digests.remote_file_digests(LocalConnection(), str(folder), expected(folder)) == expected(folder)


def test_no_such_folder(tmp_path):
    with pytest.raises(ClusterError, match="nowhere"):
        remote_digests.remote_file_digests(LocalConnection(), str(tmp_path / "nowhere"), ["x"])

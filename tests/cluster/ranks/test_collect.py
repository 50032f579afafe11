"""What another host announces comes home whole, inside the run's folder, or not at all."""

import hashlib
import os
from pathlib import Path

import pytest

from thunder.cluster.inventory.cluster_file import Host
from thunder.cluster.ranks import collect as room
from thunder.cluster.ranks.collect import collect_outputs
from thunder.cluster.ranks.exit_causes import RankEnd
from thunder.errors import ArtifactError

HOST = Host(name="Mac5", ssh="mac5", ips=["10.0.0.2"])


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Far:
    """The files of the other host, fetched through a connection that is counted."""

    def __init__(self, **files: bytes) -> None:
        self.files, self.fetched, self.opened = dict(files), [], 0

    def __enter__(self):
        self.opened += 1
        return self

    def __exit__(self, *error):
        pass

    def fetch(self, far, near):
        self.fetched.append(far)
        near.write_bytes(self.files[far])


@pytest.fixture
def bring(tmp_path, monkeypatch):
    folder = tmp_path / "runs" / "r"
    folder.mkdir(parents=True)

    def bring(left, files=None):
        bring.far = Far()
        bring.far.files = {f"/far/r/{name}": data for name, data in (files or {}).items()}
        monkeypatch.setattr(room.client, "connect_ssh", lambda name: bring.far)
        end = RankEnd(0, "Mac5", 0, False, (), Path("/l"), folder="/far/r", outputs=left)
        return collect_outputs(end, HOST, folder)

    bring.folder = folder
    return bring


def test_files_come_home_and_those_that_are_here_stay(bring):
    files = {"adapters/deep/a.bin": b"A" * 1000, "results.json": b"{}"}
    (bring.folder / "results.json").write_bytes(b"{}")
    left = {name: sha(data) for name, data in files.items()}
    assert bring(left, files) == 1 and bring.far.fetched == ["/far/r/adapters/deep/a.bin"]
    assert (bring.folder / "adapters/deep/a.bin").read_bytes() == b"A" * 1000
    assert bring(left, files) == 0 and bring.far.opened == 0, "nothing is asked where nothing is wanted"


def test_a_file_that_has_changed_there_takes_the_place_of_ours(bring):
    (bring.folder / "metrics.jsonl").write_bytes(b"old")
    assert bring({"metrics.jsonl": sha(b"new")}, {"metrics.jsonl": b"new"}) == 1
    assert (bring.folder / "metrics.jsonl").read_bytes() == b"new"


def test_a_file_that_arrives_otherwise_than_announced_is_removed(bring):
    with pytest.raises(ArtifactError, match="its SHA-256 changed during the copy") as caught:
        bring({"adapters/a": sha(b"right")}, {"adapters/a": b"wrong"})
    assert not (bring.folder / "adapters/a").exists() and "resume r" in caught.value.fix


@pytest.mark.parametrize(
    "name",
    [
        "../x", "a/../../x", "a/..", "..", ".", "", "/etc/passwd", "/", "a/../x", ".lock", "a/.hidden/b", "x\0y",
        "config.yaml", "plan.json", "environment.json", "hostfile.json", "logs/rank-0.log", "checkpoints/step-1/x",
        "faults/x", "incidents.jsonl", "changes.jsonl", "end.json", "train.log", "./config.yaml", "a//../x",
        "x" * 300 + "/y", "\ud800/x",
    ],
)  # fmt: skip
def test_a_name_that_may_not_come_from_elsewhere(bring, name, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ArtifactError, match="Mac5 announced a file at a place where a remote host may not write"):
        bring({"good": sha(b"g"), name: sha(b"evil")}, {"good": b"g", name: b"evil"})
    assert sorted(tmp_path.rglob("*")) == before and bring.far.opened == 0, "refused before anything is fetched"


def test_a_link_out_of_the_folder_is_not_followed(bring, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (bring.folder / "adapters").symlink_to(outside)
    with pytest.raises(ArtifactError, match="a remote host may not write"):
        bring({"adapters/x": sha(b"evil")}, {"adapters/x": b"evil"})
    assert not any(outside.iterdir())


def test_links_that_turn_in_a_circle(bring):
    (bring.folder / "a").symlink_to("b")
    (bring.folder / "b").symlink_to("a")
    with pytest.raises(ArtifactError):
        bring({"a/x": sha(b"")}, {"a/x": b""})


def test_a_folder_of_runs_may_itself_be_a_link(bring, tmp_path):
    (tmp_path / "link").symlink_to(bring.folder.parent)
    bring.folder.mkdir(exist_ok=True)
    end = RankEnd(0, "Mac5", 0, False, (), Path("/l"), folder="/far/r", outputs={"x": sha(b"x")})
    bring({})
    bring.far.files = {"/far/r/x": b"x"}
    assert collect_outputs(end, HOST, tmp_path / "link" / "r") == 1 and (bring.folder / "x").read_bytes() == b"x"


def test_a_file_where_a_folder_should_be_and_the_other_way_round(bring):
    (bring.folder / "file").write_bytes(b"")
    with pytest.raises(ArtifactError, match="is a file"):
        bring({"file/x": sha(b"x")}, {"file/x": b"x"})
    (bring.folder / "dir").mkdir()
    with pytest.raises(ArtifactError, match="a remote host may not write"):
        bring({"dir": sha(b"x")}, {"dir": b"x"})


def test_a_pipe_in_the_way_stops_nothing(bring):
    os.mkfifo(bring.folder / "fifo")
    bring.far = None
    with pytest.raises(ArtifactError):
        bring({"fifo/x": sha(b"x")}, {"fifo/x": b"x"})

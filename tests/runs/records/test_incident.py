"""The bundle of a run that stopped."""

import os
import tarfile

import pytest

from thunder.runs.records import incident


def members(path):
    with tarfile.open(path) as archive:
        return {each.name: archive.extractfile(each).read() for each in archive}


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "20260101-120000-x-abcd"
    (made / "logs").mkdir(parents=True)
    return made


def test_it_holds_the_last_of_everything_that_tells_why(folder, monkeypatch):
    monkeypatch.setattr(incident, "MOST_BYTES", 10)
    for name in ("incidents.jsonl", "plan.json", "train.log"):
        (folder / name).write_text(name)
    (folder / "logs" / "rank-0.log").write_bytes(b"0123456789last words")
    (folder / "logs" / "other.txt").write_text("no log")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "weights").write_text("large")
    bundle = incident.pack_incident(folder)
    assert bundle.parent == folder and bundle.name.startswith("incident-")
    assert members(bundle) == {
        f"{folder.name}/incidents.jsonl": b"ents.jsonl"[-10:],
        f"{folder.name}/plan.json": b"plan.json",
        f"{folder.name}/train.log": b"train.log",
        f"{folder.name}/logs/rank-0.log": b"last words",
    }
    assert not list(folder.glob(".incident*"))


def test_a_folder_without_any_of_it(folder):
    (folder / "logs").rmdir()
    assert members(incident.pack_incident(folder)) == {}


def test_a_name_that_is_no_file_is_left_out(folder):
    (folder / "plan.json").mkdir()
    (folder / "train.log").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "logs" / "rank-0.log")
    assert members(incident.pack_incident(folder)) == {}


def test_one_that_cannot_be_written_leaves_nothing_half_done(folder, monkeypatch):
    (folder / "plan.json").write_text("x")

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(incident, "_add", full)
    with pytest.raises(OSError):
        incident.pack_incident(folder)
    assert [path.name for path in folder.iterdir() if "incident" in path.name] == []

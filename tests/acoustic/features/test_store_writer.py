"""The writer of a feature store: what it refuses, and how it continues after a stop without loss."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
from feature_stores import (
    CORRUPTIONS,
    FP16,
    INT8,
    WIDTH,
    frames_of,
    utterance_of,
    write,
)

from thunder.acoustic.features.store_writer import StoreWriter
from thunder.errors import CorpusError, UsageError


def bytes_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.parametrize(("bad", "said"), [(np.nan, "not finite in frame 1"), (1e6, "too large for fp16")])
def test_features_that_cannot_be_stored_are_refused_by_name(tmp_path, bad, said):
    features = frames_of(0)
    features[1, 2] = bad
    with StoreWriter(tmp_path, FP16, WIDTH) as writer, pytest.raises(CorpusError, match=f"utterance 'u0': .*{said}"):
        writer.add(utterance_of(0), features)


@pytest.mark.parametrize("stop", [1, 4, 5, 9, 11])
@pytest.mark.parametrize("recipe", [FP16, INT8], ids=lambda recipe: recipe.dtype)
def test_a_writer_that_stopped_goes_on_to_the_same_bytes(tmp_path, recipe, stop):
    write(tmp_path / "whole", recipe)
    with StoreWriter(tmp_path / "resumed", recipe, WIDTH, shard_bytes=150) as writer:
        for number in range(stop):
            writer.add(utterance_of(number), frames_of(number))
        done = sum(entry.rows for entry in writer.entries)
    (tmp_path / "resumed" / ".shard-00009.safetensors.1.tmp").write_bytes(b"left by a killed process")
    with StoreWriter(tmp_path / "resumed", recipe, WIDTH, shard_bytes=150) as writer:
        assert writer.position == done
    write(tmp_path / "resumed", recipe)
    assert bytes_of(tmp_path / "resumed") == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("name", ["torn shard", "missing shard", "flipped byte", "list torn", "index edited"])
def test_what_is_damaged_is_made_again_and_the_rest_kept(folder, name):
    before = bytes_of(folder)
    CORRUPTIONS[name][0](folder)
    made = []
    with StoreWriter(folder, FP16, WIDTH, shard_bytes=150) as writer:
        while writer.position < 12:
            made.append(writer.position)
            writer.add(utterance_of(writer.position), frames_of(writer.position))
        writer.finish()
    assert bytes_of(folder) == before
    assert len(made) <= 4, "only the damaged shard's rows"


def test_rows_left_out_are_kept_in_mind_and_can_be_tried_again(tmp_path):
    with StoreWriter(tmp_path, FP16, WIDTH) as writer:
        writer.add(utterance_of(0), frames_of(0))
        writer.leave_out("u1", "is empty")
        assert writer.finish()["left_out"] == 1
    with StoreWriter(tmp_path, FP16, WIDTH) as writer:
        assert (writer.position, writer.left_out) == (2, [("u1", "is empty")])
    with StoreWriter(tmp_path, FP16, WIDTH, redo_left_out=True) as writer:
        assert writer.position == 0


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="is not empty and holds no features"):
        write(tmp_path / "other")
    write(tmp_path / "store", plan={"inputs": "a"})
    for more in ({"recipe": INT8, "plan": {"inputs": "a"}}, {"plan": {"inputs": "b"}}, {"shard_bytes": 99}):
        with pytest.raises(UsageError, match="holds features made with other options: .*, now"):
            write(tmp_path / "store", **more)


def test_a_folder_that_was_only_just_begun_is_gone_on_with(tmp_path):
    write(tmp_path / "whole")
    (tmp_path / "begun").mkdir()
    for name in (".plan.json.77.tmp", ".DS_Store"):
        (tmp_path / "begun" / name).write_bytes(b"{")
    write(tmp_path / "begun")
    (tmp_path / "begun" / ".DS_Store").unlink()
    assert bytes_of(tmp_path / "begun") == bytes_of(tmp_path / "whole")


def test_a_full_disk_leaves_what_is_whole(tmp_path, monkeypatch):
    write(tmp_path / "whole")
    calls = []

    def fsync(number, real=os.fsync):
        calls.append(number)
        if len(calls) == 4:  # plan, first shard and its list went well
            raise OSError(errno.ENOSPC, "No space left on device")
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "full")
    names = sorted(path.name for path in (tmp_path / "full").iterdir())
    assert names == [".lock", "plan.json", "shard-00000.jsonl", "shard-00000.safetensors"]
    write(tmp_path / "full")
    assert bytes_of(tmp_path / "full") == bytes_of(tmp_path / "whole")


def test_two_processes_do_not_write_into_one_folder(tmp_path):
    with StoreWriter(tmp_path, FP16, WIDTH), pytest.raises(UsageError, match="another process writes features here"):
        write(tmp_path)

"""Manifests: every changed byte is found and named; other formats, fingerprints and steps are told."""

from __future__ import annotations

import json
import random
import shutil

import pytest
from small_checkpoints import FILES, FINGERPRINT, newest, save_checkpoints

from thunder.errors import ArtifactError
from thunder.training.checkpoints import checkpoint, checkpoint_manifest


@pytest.fixture
def saved(tmp_path):
    return save_checkpoints(tmp_path)


def test_the_changed_tensor_is_named(saved):
    path = saved[0] / "step-0000006" / checkpoint.WEIGHTS
    content = bytearray(path.read_bytes())
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    start = len(content) - max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    content[start + header["bias"]["data_offsets"][0]] ^= 4
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"changed, in bias\n"):
        checkpoint.verify_checkpoint(path.parent)


def test_two_hundred_flipped_bytes_are_all_found(saved):
    folder = saved[0] / "step-0000006"
    draw = random.Random(20)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    assert {path.relative_to(folder).as_posix() for path in paths} == set(FILES)
    for number in range(200):
        path = paths[number % len(paths)]
        content = path.read_bytes()
        place = draw.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :])
        with pytest.raises(ArtifactError, match=path.name):
            checkpoint.verify_checkpoint(folder)
        path.write_bytes(content)
    checkpoint.verify_checkpoint(folder)


def test_a_checkpoint_of_another_run_needs_force(saved):
    root = saved[0]
    now = {"fingerprint": FINGERPRINT | {"data": "e" * 64, "base weights": "f" * 64}, "ranks": 3}
    with pytest.raises(ArtifactError) as caught:
        newest(root, **now)
    assert "base weights: bbbbbbbbbbbb -> ffffffffffff; data: dddddddddddd -> eeeeeeeeeeee" in caught.value.message
    assert "planned ranks: 2 -> 3" in caught.value.message and "configuration" not in caught.value.message
    assert "--force" in caught.value.fix
    said: list[str] = []
    assert newest(root, said, force=True, **now) == "step-0000006"
    assert len(said) == 1 and "data: dddddddddddd -> eeeeeeeeeeee" in said[0]


def test_other_formats_are_named(saved):
    root = saved[0]
    path = root / "step-0000006" / checkpoint.MANIFEST
    for content, words in (
        (b'{"weights.safetensors": "00"}', "format 0 (no `format` key); this version reads 1"),
        (checkpoint_manifest.render_manifest({"format": 2, "step": 6}), "format 2; this version reads 1"),
        (checkpoint_manifest.render_manifest({"format": 1, "step": 6}), "not a manifest of ours"),
        (b"[]", "not a manifest of ours"),
        (path.read_bytes().replace(b'"ranks": 2', b'"ranks": 3'), "checksum does not hold"),
        (path.read_bytes().replace(b"\n", b"\n "), "checksum does not hold"),
    ):
        path.write_bytes(content)
        said: list[str] = []
        assert newest(root, said) == "step-0000004"
        assert words in said[0]


def test_one_under_another_ones_name_is_found_out(saved):
    root = saved[0]
    shutil.move(root / "step-0000006", root / "step-0000099")
    said: list[str] = []
    assert newest(root, said) == "step-0000004"
    assert "it is of step 6" in said[0]

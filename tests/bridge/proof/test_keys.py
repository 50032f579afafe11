"""Key files and key rings: only their owner reads them, and nobody signs with a key that nobody chose."""

from __future__ import annotations

import json

import pytest

from thunder.bridge.proof import keys
from thunder.errors import ArtifactError, UsageError


def test_a_link_to_a_key_file_stays_one(tmp_path):
    first = keys.add_new_key(tmp_path / "safe.json")
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "safe.json")
    second = keys.add_new_key(link)
    assert link.is_symlink() and keys.read_key_file(tmp_path / "safe.json") == second and first.active in second.keys


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o700 | 0o070])
def test_a_key_file_that_others_may_read_is_refused(tmp_path, mode):
    path = tmp_path / "keys.json"
    keys.add_new_key(path)
    path.chmod(mode)
    with pytest.raises(UsageError, match=f"mode {mode:04o}"):
        keys.read_key_file(path)


@pytest.mark.parametrize("change, fault", [
    (lambda content: [], "not a key file"), (lambda content: {"keys": {}}, "not a key file"),
    (lambda content: content | {"active": "x"}, "'active' names no key"),
    (lambda content: content | {"keys": {"x": "00" * 32}}, "does not match its id"),
    (lambda content: content | {"keys": {"x": "00" * 31}}, "31 bytes, fewer than 32"),
    (lambda content: content | {"keys": {"x": "zz" * 32}}, "not hexadecimal"),
    (lambda content: content | {"keys": {"x": 5}}, "not hexadecimal"),
])  # fmt: skip
def test_damaged_key_files_are_refused_without_their_keys(tmp_path, change, fault):
    path = tmp_path / "keys.json"
    ring = keys.add_new_key(path)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ArtifactError, match=fault) as caught:
        keys.read_key_file(path)
    assert ring.keys[ring.active].hex() not in str(caught.value)


def test_nothing_is_signed_with_a_key_that_nobody_chose(tmp_path):
    with pytest.raises(UsageError, match="no key to sign with"):
        keys.choose_key_ring(None, False, {})
    with pytest.raises(UsageError, match="No such file"):
        keys.choose_key_ring(None, False, {keys.KEY_FILE_VARIABLE: str(tmp_path / "none")})
    with pytest.raises(UsageError, match="both"):
        keys.choose_key_ring("x", True, {})
    ring = keys.add_new_key(tmp_path / "keys.json")
    assert keys.choose_key_ring(None, False, {keys.KEY_FILE_VARIABLE: str(tmp_path / "keys.json")}) == ring
    assert keys.choose_key_ring(None, True, {keys.KEY_FILE_VARIABLE: "elsewhere"}) is keys.DEV_RING

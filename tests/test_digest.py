"""Digests and written files: digests follow from the content alone, and a write is complete or changes nothing."""

import hashlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunder import digest


def test_the_canonical_form_is_independent_of_the_order_of_keys():
    value = {"b": [1, 2.5, None], "a": {"ߓ": True}}
    assert digest.canonical_json(value) == '{"a":{"ߓ":true},"b":[1,2.5,null]}'.encode()
    assert digest.sha256_json(value) == digest.sha256_json({"a": {"ߓ": True}, "b": [1, 2.5, None]})
    with pytest.raises(ValueError):
        digest.canonical_json({"a": float("nan")})


def test_published_digests(tmp_path):
    """The test vectors of FIPS 180 for the empty message and for 'abc'."""
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (digest.sha256_bytes(b""), digest.sha256_bytes(b"abc")) == (empty, abc)
    (tmp_path / "a").write_bytes(b"abc")
    assert digest.sha256_file(tmp_path / "a") == abc
    assert digest.sha256_json("abc") == hashlib.sha256(b'"abc"').hexdigest()


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=4), st.data())
def test_any_changed_byte_of_a_checked_file_is_found(tmp_path_factory, content, data):
    path = tmp_path_factory.mktemp("checked") / "a.json"
    content.pop("checksum", None)
    try:
        written = digest.dump_with_checksum(content)
    except UnicodeEncodeError:  # half of a surrogate pair
        return
    path.write_bytes(written)
    assert digest.read_with_checksum(path) == content | {"checksum": digest.sha256_json(content)}
    place = data.draw(st.integers(0, len(written) - 1))
    path.write_bytes(written[:place] + bytes([written[place] ^ 1]) + written[place + 1 :])
    with pytest.raises(ValueError):
        digest.read_with_checksum(path)
    path.write_bytes(written[:place])
    with pytest.raises(ValueError):
        digest.read_with_checksum(path)


def test_a_file_nested_too_deep_is_a_value_error(tmp_path):
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        digest.read_with_checksum(tmp_path / "a.json")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    digest.write_atomically(path, "ߓߊ")
    assert path.read_bytes() == "ߓߊ".encode()

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        digest.write_atomically(path, b"new")
    assert path.read_bytes() == "ߓߊ".encode() and os.listdir(tmp_path) == ["a.txt"]


def test_json_for_people_is_sorted_indented_and_unescaped(tmp_path):
    digest.write_json(tmp_path / "a.json", {"b": "ߓߊ", "a": [1]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == '{\n    "a": [\n        1\n    ],\n    "b": "ߓߊ"\n}\n'
    assert json.loads(text) == {"b": "ߓߊ", "a": [1]}

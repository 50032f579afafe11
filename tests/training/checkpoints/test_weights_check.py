"""Weights as files: each kind of damage is named by its tensor, and what was not looked at is not called right."""

from __future__ import annotations

import json
import shutil

import numpy as np
import planted_runs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_runs import write_tensors

from thunder import tensor_digests
from thunder.training.checkpoints import checkpoint_manifest, weights_check

MOMENTS = ("a.lora_a.m", "a.lora_a.v", "a.lora_b.m", "a.lora_b.v")


def write_checkpoint(root, step, *, seed=None, rate=1e-3):
    """A checkpoint put together by hand; the same seed gives the same weights and moments."""
    folder = root / f"step-{step:07d}"
    folder.mkdir(parents=True)
    draw = np.random.default_rng(step if seed is None else seed)

    def normal():
        return draw.normal(size=(4, 3)).astype(np.float32)

    write_tensors(folder / checkpoint_manifest.WEIGHTS, {name: normal() for name in ("a.lora_a", "a.lora_b", "norm")})
    state = {name: normal() for name in MOMENTS} | {"step": np.array(step, np.int32)}
    write_tensors(folder / checkpoint_manifest.OPTIMIZER, state | {"learning_rate": np.array(rate, np.float32)})
    (folder / "trainer_state.json").write_text(json.dumps({"step": step}))
    checkpoint_manifest.write_checkpoint_manifest(folder, step=step, ranks=1, fingerprint={"base weights": "b" * 64})
    return folder


@pytest.fixture
def file(tmp_path):
    """(path, recorded tensors, SHA-256 of the file) of three tensors."""
    path = tmp_path / "x.safetensors"
    tensors = {name: np.arange(6, dtype=np.float32).reshape(2, 3) + place for place, name in enumerate("abc")}
    write_tensors(path, tensors)
    return path, tensor_digests.file_tensor_digests(path), weights_check.digest.sha256_file(path)


def faults(checks):
    return {check.what: check.detail for check in checks if check.state == "fault"}


def test_a_whole_file(file):
    assert {(check.what, check.state) for check in weights_check.check_weights_file(*file)} == {
        ("whole", "ok"), ("digests", "ok"), ("finite", "ok")
    }  # fmt: skip


def test_no_manifest_is_no_ok(file):
    states = {check.what: check.state for check in weights_check.check_weights_file(file[0])}
    assert states["digests"] == "skipped"


@pytest.mark.expensive
@settings(max_examples=200)
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_one_flipped_bit_anywhere_is_found(tmp_path_factory, place, bit):
    path = tmp_path_factory.mktemp("flip") / "x.safetensors"
    write_tensors(path, {name: np.full((2, 3), 1.5, np.float32) for name in ("one", "two")})
    recorded, sha256 = tensor_digests.file_tensor_digests(path), weights_check.digest.sha256_file(path)
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(bytes(data))
    found = faults(weights_check.check_weights_file(path, recorded, sha256))
    assert found, "not found"
    of_data = len(data) - 48
    if place % len(data) >= of_data:
        wanted = ("one", "two")[(place % len(data) - of_data) // 24]
        assert found["digests"].startswith(f"{wanted}: ")


@pytest.mark.parametrize("cut", [1, 24, 70, 150])
def test_a_truncated_file(file, cut):
    path, recorded, sha256 = file
    path.write_bytes(path.read_bytes()[:-cut])
    checks = weights_check.check_weights_file(path, recorded, sha256)
    assert "whole" in faults(checks)
    assert all(check.state != "ok" for check in checks), "nothing else was looked at"


def test_bytes_too_many(file):
    path, recorded, sha256 = file
    path.write_bytes(path.read_bytes() + b"xyz")
    assert faults(weights_check.check_weights_file(path, recorded, sha256))["whole"] == "3 bytes too many"


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda tensors: tensors.update(d=tensors.pop("b")), ["b: missing", "d: not in the manifest"]),
        (lambda tensors: tensors.pop("c"), ["c: missing"]),
        (lambda tensors: tensors.update(a=tensors["a"].reshape(3, 2)), ["a: shape [3, 2], recorded is [2, 3]"]),
        (lambda tensors: tensors.update(a=tensors["a"].astype(np.float16)), ["a: F16, recorded is F32"]),
        (lambda tensors: tensors.update(a=tensors["b"], b=tensors["a"]), ["a: its bytes", "b: its bytes"]),
    ],
)
def test_tensors_other_than_recorded(file, change, said):
    path, recorded, sha256 = file
    tensors = {name: np.arange(6, dtype=np.float32).reshape(2, 3) + place for place, name in enumerate("abc")}
    change(tensors)
    write_tensors(path, tensors)
    found = faults(weights_check.check_weights_file(path, recorded, sha256))
    assert list(found) == ["digests"] and all(text in found["digests"] for text in said)


def test_a_header_that_says_something_else_with_the_same_tensors(file):
    path, recorded, sha256 = file
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"a"', b'"a" ', 1).replace(b", ", b",", 1))
    assert "outside of the tensors" in faults(weights_check.check_weights_file(path, recorded, sha256))["digests"]


@pytest.mark.parametrize(
    "array, count",
    [
        (np.array([1, np.nan, np.inf, -np.inf], np.float32), 3),
        (np.array([1, np.nan], np.float16), 1),
        (np.array([0x3F80, 0x7F80, 0xFF80, 0x7FC1], np.uint16), 3),  # BF16: 1, inf, -inf, NaN
        (np.array([0x3F80, 0x7F7F, 0x0000], np.uint16), 0),  # BF16: 1, the largest, 0
    ],
)
def test_numbers_that_are_none(tmp_path, array, count):
    write_tensors(tmp_path / "x", {"fine": np.ones(2, np.float32), "t": array})
    found = faults(weights_check.check_weights_file(tmp_path / "x"))
    assert found == ({"finite": f"t: {count} NaN or infinite"} if count else {})


def test_a_kind_that_cannot_be_looked_into_is_skipped(tmp_path):
    write_tensors(tmp_path / "x", {"t": np.ones(2, np.float32)})
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes().replace(b"F32", b"F8?"))
    states = [(check.what, check.state) for check in weights_check.check_weights_file(tmp_path / "x")]
    assert ("finite", "skipped") in states


# checkpoints


def states(checks, what):
    return {check.file: check.state for check in checks if check.what == what}


def test_a_checkpoint_that_has_moved(tmp_path):
    first, second = write_checkpoint(tmp_path, 10), write_checkpoint(tmp_path, 20)
    checks = weights_check.check_checkpoint(second, first)
    assert {check.state for check in checks} == {"ok"}
    assert set(states(checks, "moved").values()) == {"ok"}
    alone = weights_check.check_checkpoint(first)
    assert set(states(alone, "moved").values()) == {"skipped"}, "nothing to compare it with"


def test_an_optimizer_that_only_counts(tmp_path):
    """Weights and moments of two steps are the same to the last byte, though the rate is not 0."""
    first, second = write_checkpoint(tmp_path, 10, seed=5), write_checkpoint(tmp_path, 20, seed=5)
    found = [check for check in weights_check.check_checkpoint(second, first) if check.state == "fault"]
    assert [(check.file, check.what) for check in found] == [
        (checkpoint_manifest.WEIGHTS, "moved"),
        (checkpoint_manifest.OPTIMIZER, "moved"),
    ]
    assert "none of 4 tensors has moved since step-0000010" in found[1].detail and "0.001" in found[1].detail


def test_at_a_rate_of_0_nothing_has_to_move(tmp_path):
    first, second = (write_checkpoint(tmp_path, step, seed=5, rate=0.0) for step in (10, 20))
    assert set(states(weights_check.check_checkpoint(second, first), "moved").values()) == {"skipped"}


def test_a_later_one_is_no_earlier_one(tmp_path):
    first, second = write_checkpoint(tmp_path, 10), write_checkpoint(tmp_path, 20)
    assert set(states(weights_check.check_checkpoint(first, second), "moved").values()) == {"skipped"}


@pytest.mark.parametrize("name", [checkpoint_manifest.WEIGHTS, checkpoint_manifest.OPTIMIZER, "trainer_state.json"])
def test_a_flipped_bit_in_any_file_of_a_checkpoint(tmp_path, name):
    folder = write_checkpoint(tmp_path, 10)
    data = bytearray((folder / name).read_bytes())
    data[-2] ^= 4
    (folder / name).write_bytes(bytes(data))
    (fault,) = (
        check for check in weights_check.check_checkpoint(folder) if check.what == "digests" and check.state != "ok"
    )
    assert fault.file == name and fault.state == "fault"
    (folder / name).unlink()
    assert ("missing", "fault") in {(check.detail, check.state) for check in weights_check.check_checkpoint(folder)}


def test_a_checkpoint_of_another_step_or_with_a_torn_manifest(tmp_path):
    folder = write_checkpoint(tmp_path, 10)
    other = shutil.copytree(folder, tmp_path / "step-0000011")
    assert "it is of step 10" in {check.detail for check in weights_check.check_checkpoint(other)}
    (other / "manifest.json").write_bytes(b"{}")
    (check,) = weights_check.check_checkpoint(other)
    assert check.state == "fault"


@pytest.mark.parametrize(
    "array, zero",
    [
        (np.zeros(4, np.float32), 1),
        (np.array([0.0, -0.0], np.float32), 1),
        (np.array([0, 1e-30], np.float32), 0),
        (np.array([0x8000, 0], np.uint16), 1),  # BF16: -0, 0
        (np.array([0x8001, 0], np.uint16), 0),
        (np.zeros(3, np.int32), 1),
    ],
)
def test_all_zero(tmp_path, array, zero):
    write_tensors(tmp_path / "x", {"l.lora_b": array, "other": np.zeros(2, np.float32)})
    assert weights_check.count_zero_tensors(tmp_path / "x", ".lora_b") == (zero, 1)


def test_the_planted_writer_writes_what_others_read(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = {"a": np.ones((2, 3), np.float32), "b": np.array(3, np.int32)}
    planted_runs.write_tensors(tmp_path / "x", tensors)
    read = safetensors.load_file(tmp_path / "x")
    assert {name: array.tolist() for name, array in read.items()} == {n: a.tolist() for n, a in tensors.items()}

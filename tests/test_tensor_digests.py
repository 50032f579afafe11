"""Digests of tensors: those of the bytes, and a file that is no safetensors file is refused."""

from __future__ import annotations

import hashlib

import mlx.core as mx
import numpy as np
import pytest

from thunder import tensor_digests


def test_tensor_digests_are_those_of_the_bytes(tmp_path):
    """Against numpy's own bytes of the same arrays."""
    arrays = {"a.b": np.arange(12, dtype=np.float32).reshape(3, 4), "c": np.arange(3, dtype=np.int32)}
    path = tmp_path / "x.safetensors"
    mx.save_safetensors(str(path), {name: mx.array(array) for name, array in arrays.items()}, {"format": "mlx"})
    assert tensor_digests.file_tensor_digests(path) == {
        "a.b": {"sha256": hashlib.sha256(arrays["a.b"].tobytes()).hexdigest(), "dtype": "F32", "shape": [3, 4]},
        "c": {"sha256": hashlib.sha256(arrays["c"].tobytes()).hexdigest(), "dtype": "I32", "shape": [3]},
    }


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 20, (2).to_bytes(8, "little") + b"[]", (9).to_bytes(8, "little") + b'{"a": {}}',
     (40).to_bytes(8, "little") + b'{"a":{"data_offsets":[0,9],"dtype":"F3"}'],
)  # fmt: skip
def test_what_is_no_safetensors_file_is_a_value_error(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError):
        tensor_digests.file_tensor_digests(tmp_path / "x")
    assert tensor_digests.differing_tensors(tmp_path / "x", {"a": {}}) == []

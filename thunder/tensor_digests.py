"""Compute a digest of each tensor of a safetensors file, by the file's header; needs no MLX."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_HEADER_BYTES = 100 * 2**20  # bytes; the format's own limit


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as stored in a file. dtype: the format's name, such as F32 or BF16."""

    name: str
    dtype: str
    shape: list[int]
    data: bytes


def read_tensors(path: Path) -> Iterator[StoredTensor]:
    """Yield the tensors of a safetensors file, one at a time, in the order of its header.

    Raises ValueError if the file is not a complete safetensors file.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > min(MAX_HEADER_BYTES, size - 8):
            raise ValueError(f"its header claims {length} bytes of {size}")
        header = json.loads(stream.read(length))
        if not isinstance(header, dict):
            raise ValueError("its header is not a table of tensors")
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            try:
                (start, end), kind, shape = entry["data_offsets"], entry["dtype"], entry["shape"]
                if not isinstance(kind, str) or not all(isinstance(each, int) for each in (start, end, *shape)):
                    raise TypeError("dtype, shape or offsets have the wrong type")
                if not 0 <= start <= end <= size - 8 - length:
                    raise ValueError(f"tensor {name} lies outside the file")
            except (KeyError, TypeError) as error:
                raise ValueError(f"tensor {name} is not described: {error}") from None
            stream.seek(8 + length + start)
            yield StoredTensor(name, kind, shape, stream.read(end - start))


def file_tensor_digests(path: Path) -> dict[str, dict[str, Any]]:
    """Return tensor name -> {"sha256" of its bytes, "dtype", "shape"}.

    Raises ValueError if the file is not a complete safetensors file.
    """
    return {
        each.name: {"sha256": hashlib.sha256(each.data).hexdigest(), "dtype": each.dtype, "shape": each.shape}
        for each in read_tensors(path)
    }


def differing_tensors(path: Path, recorded: dict[str, Any]) -> list[str]:
    """Return the names of tensors that differ from the record, missing and additional ones included.

    Empty if the header itself cannot be read, or if the damage is in no tensor.
    """
    try:
        digests = file_tensor_digests(path)
    except (ValueError, OSError):
        return []
    return sorted(name for name in digests.keys() | recorded.keys() if digests.get(name) != recorded.get(name))

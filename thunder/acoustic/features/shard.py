"""One shard: a safetensors file with the frames of many utterances in one tensor, written in a stream, read mapped."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from thunder.acoustic.features.store_index import SCHEMA
from thunder.errors import ArtifactError, CorpusError

# the header is written last, into reserved space: the number of frames is not known earlier
_HEADER_BYTES = 1024
FEATURES, SCALES = "features", "scales"
_NAMES = {"fp16": "F16", "int8": "I8"}
_TYPES = {"fp16": np.dtype("<f2"), "int8": np.dtype("i1")}
_SCALE = np.dtype("<f4")


def row_bytes(dtype: str, width: int) -> int:
    """Bytes of one frame in a shard, with its scale."""
    return _TYPES[dtype].itemsize * width + (_SCALE.itemsize if dtype == "int8" else 0)


def quantize_frames(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[T, D] float -> int8 [T, D] and scales [T] float32.

    The error is at most half a scale: 1/254 of the frame's largest absolute value.
    """
    features = np.asarray(features, np.float32)
    scales = np.abs(features).max(1, initial=0.0).astype(_SCALE) / np.float32(127)
    # a frame of zeros, or of values too small for a scale, is stored as zeros
    safe = np.where(scales > 0, scales, 1).astype(_SCALE)
    levels = np.rint(np.clip(features / safe[:, None], -127, 127)).astype(np.int8)
    return np.where(scales[:, None] > 0, levels, 0).astype(np.int8), scales


def round_as_stored(features: np.ndarray, dtype: str) -> np.ndarray:
    """[T, D] float -> float32, rounded as a shard rounds it, so that the values equal those read from a store."""
    if dtype == "int8":
        levels, scales = quantize_frames(features)
        return levels.astype(np.float32) * scales[:, None]
    return features.astype(_TYPES["fp16"]).astype(np.float32)


def shard_header(dtype: str, frames: int, width: int, recipe_digest: str) -> bytes:
    """The safetensors header, padded to its reserved size."""
    bytes_of_features = _TYPES[dtype].itemsize * frames * width
    table: dict[str, object] = {
        "__metadata__": {"schema": SCHEMA, "recipe": recipe_digest},
        FEATURES: {"dtype": _NAMES[dtype], "shape": [frames, width], "data_offsets": [0, bytes_of_features]},
    }
    if dtype == "int8":
        end = bytes_of_features + _SCALE.itemsize * frames
        table[SCALES] = {"dtype": "F32", "shape": [frames], "data_offsets": [bytes_of_features, end]}
    text = json.dumps(table, separators=(",", ":")).encode()
    assert len(text) <= _HEADER_BYTES - 8
    return (_HEADER_BYTES - 8).to_bytes(8, "little") + text.ljust(_HEADER_BYTES - 8)


class ShardWriter:
    """Writes a shard; memory holds one utterance, and with int8 another four bytes for each frame."""

    def __init__(self, path: Path, dtype: str, width: int, recipe_digest: str) -> None:
        self.path, self.dtype, self.width, self.recipe_digest = path, dtype, width, recipe_digest
        self.frames = 0
        self._scales: list[np.ndarray] = []
        self._out: BinaryIO = path.open("wb")
        self._out.write(bytes(_HEADER_BYTES))

    @property
    def bytes(self) -> int:
        """Bytes of features so far."""
        return self.frames * row_bytes(self.dtype, self.width)

    def add(self, name: str, features: np.ndarray) -> int:
        """Append [T, D]; return the CRC-32 of the stored bytes.

        Raises CorpusError that names the utterance if the features are not finite, or too large for fp16.
        """
        assert features.ndim == 2 and features.shape[1] == self.width, f"{name}: {features.shape}, width {self.width}"
        if not np.isfinite(features).all():
            frame = int(np.flatnonzero(~np.isfinite(features).all(1))[0])
            raise CorpusError(f"utterance {name!r}: its features are not finite in frame {frame}", "exclude it")
        if self.dtype == "int8":
            stored, scales = quantize_frames(features)
            self._scales.append(scales)
        else:
            with np.errstate(over="ignore"):
                stored, scales = features.astype(_TYPES["fp16"]), np.empty(0, _SCALE)
            if not np.isfinite(stored).all():
                raise CorpusError(
                    f"utterance {name!r}: {np.abs(features).max():.3g} is too large for fp16", "store with --dtype int8"
                )
        self._out.write(stored.tobytes())
        self.frames += len(stored)
        return checksum(stored, scales)

    def finish(self) -> None:
        """Write scales and header, flush to disk and close."""
        for scales in self._scales:
            self._out.write(scales.tobytes())
        self._out.seek(0)
        self._out.write(shard_header(self.dtype, self.frames, self.width, self.recipe_digest))
        self._out.flush()
        os.fsync(self._out.fileno())
        self._out.close()

    def abandon(self) -> None:
        """Close and delete the unfinished file."""
        self._out.close()
        self.path.unlink(missing_ok=True)


def checksum(stored: np.ndarray, scales: np.ndarray) -> int:
    """CRC-32 of an utterance's stored bytes."""
    return zlib.crc32(scales.tobytes(), zlib.crc32(np.ascontiguousarray(stored).tobytes()))


def first_incomplete_frame(size: int, dtype: str, frames: int, width: int) -> int:
    """Index of the first incomplete frame in a shard whose size differs from its header."""
    begin, row = (
        (_HEADER_BYTES + frames * width, _SCALE.itemsize)
        if dtype == "int8"
        else (_HEADER_BYTES, row_bytes(dtype, width))
    )
    return max(0, size - begin) // row


class Shard:
    """A finished shard, mapped into memory."""

    def __init__(self, path: Path, dtype: str, frames: int, width: int) -> None:
        start, rows = _HEADER_BYTES, np.memmap(path, np.uint8, "r")
        end = start + _TYPES[dtype].itemsize * frames * width
        self._rows = rows[start:end].view(_TYPES[dtype]).reshape(frames, width)
        self._scales = rows[end:].view(_SCALE) if dtype == "int8" else np.empty(0, _SCALE)

    def stored(self, first: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Stored rows [T, D] and their scales ([T]; empty with fp16)."""
        return self._rows[first : first + frames], self._scales[first : first + frames]

    def features(self, first: int, frames: int) -> np.ndarray:
        """Rows [T, D] as float32."""
        rows, scales = self.stored(first, frames)
        features = rows.astype(np.float32)
        return features * scales[:, None] if len(self._scales) else features


def check_header(path: Path, dtype: str, frames: int, width: int, recipe_digest: str, fix: str) -> None:
    """Compare a shard's header with the index. Raises ArtifactError that names the difference."""
    with path.open("rb") as stream:
        header = stream.read(_HEADER_BYTES)
    if header == shard_header(dtype, frames, width, recipe_digest):
        return
    try:
        table = json.loads(header[8:])
        recipe = table["__metadata__"]["recipe"]
        kind, shape = table[FEATURES]["dtype"], table[FEATURES]["shape"]
    except (ValueError, KeyError, TypeError):
        raise ArtifactError(f"{path}: its header is damaged", fix) from None
    if recipe != recipe_digest:
        raise ArtifactError(
            f"{path}: holds features of another recipe ({str(recipe)[:16]}..., the index says {recipe_digest[:16]}...)",
            fix,
        )
    raise ArtifactError(
        f"{path}: its header says {kind} {shape}, the index {_NAMES[dtype]} [{frames}, {width}], or it is damaged", fix
    )

"""Compute SHA-256 digests of files, folders and values, and write files atomically."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> bytes:
    """Return the canonical bytes of a JSON value: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_json(value: Any) -> str:
    """Return the SHA-256 (hex) of a JSON value's canonical form."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 (hex) of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def dump_with_checksum(content: Mapping[str, Any]) -> bytes:
    """Serialize an object as indented JSON with a checksum of its other keys, so that any changed byte is found."""
    rest = {key: value for key, value in content.items() if key != "checksum"}
    whole = rest | {"checksum": sha256_json(rest)}
    return (json.dumps(whole, sort_keys=True, indent=4, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_with_checksum(path: Path) -> dict[str, Any]:
    """Read a file that `dump_with_checksum` wrote. Raises OSError, and ValueError that names the fault."""
    text = path.read_bytes()
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict) or dump_with_checksum(content) != text:
        raise ValueError("its checksum is wrong: the file is truncated or changed")
    return content


def fsync_path(path: Path) -> None:
    """Flush a file's bytes, or the names in a folder, to disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a temporary file beside the target, flush it to disk, rename it: readers see the old or the new file.

    The temporary name contains the process id, so that two processes never write the same file.
    """
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file for people (sorted keys, indented by 4), atomically."""
    write_atomically(path, json.dumps(value, sort_keys=True, indent=4, ensure_ascii=False) + "\n")

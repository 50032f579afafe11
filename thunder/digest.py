"""SHA-256 digests of files, folders and values, and files that are either whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> bytes:
    """The one byte form of a JSON value: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_json(value: Any) -> str:
    """SHA-256 (hex) of a JSON value's canonical form."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sha256_bytes(data: bytes) -> str:
    """SHA-256 (hex) of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def dump_with_checksum(content: Mapping[str, Any]) -> bytes:
    """An object as the one text that people read, with a checksum of its other keys: a changed byte is found."""
    rest = {key: value for key, value in content.items() if key != "checksum"}
    whole = rest | {"checksum": sha256_json(rest)}
    return (json.dumps(whole, sort_keys=True, indent=4, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_with_checksum(path: Path) -> dict[str, Any]:
    """What `with_checksum` wrote to a file. Raises OSError, and ValueError that says what is wrong with it."""
    text = path.read_bytes()
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict) or dump_with_checksum(content) != text:
        raise ValueError("its checksum does not hold: torn or changed")
    return content


def fsync_path(path: Path) -> None:
    """See that a file's bytes, or the names in a folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file beside its place, flush it to disk, and rename it: readers see the old file or the new one.

    The name beside carries the process id, so that two processes never write into the same one.
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
    """Write a JSON file for people (sorted, indented by 4), atomically."""
    write_atomically(path, json.dumps(value, sort_keys=True, indent=4, ensure_ascii=False) + "\n")

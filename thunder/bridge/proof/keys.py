"""The keys that sign tokens and records: a key ring in a file that only its owner may read."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from thunder import digest
from thunder.errors import ArtifactError, UsageError

KEY_FILE_VARIABLE = "THUNDER_AGP_KEY_FILE"
DEV_KEY_ID = "dev"
LEAST_KEY_BYTES = 32
SHORTEST_TOKEN = 16
_FIX = f"thunder agp key new --file PATH, then {KEY_FILE_VARIABLE}=PATH"


@dataclass(frozen=True)
class KeyRing:
    """Keys by their ids. active: the id of the key that signs; the others still verify."""

    active: str
    keys: Mapping[str, bytes]

    def __repr__(self) -> str:
        """Leave the keys out, since a log may print the ring."""
        return f"KeyRing(active={self.active!r}, keys={sorted(self.keys)})"


# a public key for experiments; every verification refuses it unless asked to accept it
DEV_RING = KeyRing(DEV_KEY_ID, MappingProxyType({DEV_KEY_ID: hashlib.sha256(b"thunder agp development key").digest()}))


def key_id(key: bytes) -> str:
    """The id of a key; the key cannot be computed from it."""
    return hashlib.sha256(b"thunder agp key id\0" + key).hexdigest()[:16]


def add_new_key(path: Path) -> KeyRing:
    """Add a new key of 256 bits to the ring in a file, which is made if needed; the new key signs from now on.

    Raises as `read_key_file` does where the file exists and cannot be used.
    """
    # write through a link into a folder for secrets, and keep the link
    path = path.resolve()
    existing = dict(read_key_file(path).keys) if path.exists() else {}
    key = secrets.token_bytes(LEAST_KEY_BYTES)
    ring = KeyRing(key_id(key), existing | {key_id(key): key})
    path.parent.mkdir(parents=True, exist_ok=True)
    # a file that others could read before its mode is set would let them sign for ever
    previous = os.umask(0o177)
    try:
        digest.write_json(path, {"active": ring.active, "keys": {name: each.hex() for name, each in ring.keys.items()}})
    finally:
        os.umask(previous)
    return ring


def read_key_file(path: Path) -> KeyRing:
    """The ring of a key file.

    Raises UsageError where it is absent or others than its owner may read it, ArtifactError where it is damaged.
    """
    try:
        with path.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            data = stream.read(1 << 20)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", fix=_FIX) from None
    if mode & 0o077:
        raise UsageError(f"{path}: mode {mode:04o} lets others than its owner use the key", fix=f"chmod 600 {path}")
    try:
        return _parse_ring(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: {error}", fix="restore it from a copy, or move it away and make a key") from None


def read_bearer_token(path: Path) -> str:
    """The bearer token in a file.

    Raises UsageError where it is absent or holds no token, or where others than its owner may read it.
    """
    try:
        with path.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            text = stream.read(1 << 16).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", fix="name a file that holds the token") from None
    if mode & 0o077:
        raise UsageError(f"{path}: mode {mode:04o} lets others than its owner read it", fix=f"chmod 600 {path}")
    if len(text) < SHORTEST_TOKEN or not text.isprintable() or " " in text:
        expected = f"a token has at least {SHORTEST_TOKEN} characters and no space"
        raise UsageError(f"{path}: {expected}", fix=f"openssl rand -hex 32 > {path}")
    return text


def _parse_ring(content: Any) -> KeyRing:
    """A ring from JSON. Raises ValueError that names the fault and shows no key."""
    if not isinstance(content, dict) or set(content) != {"active", "keys"} or not isinstance(content["keys"], dict):
        raise ValueError("not a key file: expected 'active' and 'keys'")
    keys = {}
    for name, text in content["keys"].items():
        if not isinstance(text, str) or not set(text) <= set("0123456789abcdef") or len(text) % 2:
            raise ValueError(f"key '{name}' is not hexadecimal")
        key = bytes.fromhex(text)
        if len(key) < LEAST_KEY_BYTES:
            raise ValueError(f"key '{name}' has {len(key)} bytes, fewer than {LEAST_KEY_BYTES}")
        if key_id(key) != name:
            raise ValueError(f"key '{name}' does not match its id")
        keys[name] = key
    if content["active"] not in keys:
        raise ValueError("'active' names no key of the file")
    return KeyRing(content["active"], MappingProxyType(keys))


def choose_key_ring(file: str | None, dev: bool, environ: Mapping[str, str] = os.environ) -> KeyRing:
    """The ring to sign with: of the named file, else of the environment; the development key on request.

    Raises UsageError where there is none: no default key ever signs.
    """
    if dev and file:
        raise UsageError("both a key file and the development key are given", fix="leave one of them out")
    if dev:
        return DEV_RING
    named = file or environ.get(KEY_FILE_VARIABLE)
    if not named:
        raise UsageError("there is no key to sign with", fix=f"{_FIX}; for experiments: --dev-key")
    return read_key_file(Path(named).expanduser())

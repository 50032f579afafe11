"""The provenance log: a signed record of every decision, each with the digest of the record before it."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from thunder import digest
from thunder.bridge.proof.keys import KeyRing
from thunder.errors import ArtifactError, UsageError

GENESIS_DIGEST = "0" * 64  # stands for the line before the first
LONGEST_LINE = 1 << 24
_DOMAIN = b"thunder agp provenance 1\0"
_KEYS = {"kid", "mac", "prev_sha256", "record", "sha256"}


@dataclass(frozen=True)
class ChainState:
    """The state of a log that was read.

    lines: valid lines from the first. head: sha256 of the last of them. fault: the fault of the next line, or empty.
    torn: bytes after the last line end. unchecked: lines whose key is not available.
    """

    lines: int = 0
    head: str = GENESIS_DIGEST
    fault: str = ""
    torn: int = 0
    unchecked: int = 0

    def __str__(self) -> str:
        if self.fault:
            return f"chain_broken@{self.lines + 1}"
        return f"torn@{self.lines + 1}" if self.torn else "ok"


def encode_record(record: Mapping[str, Any], before: str, ring: KeyRing) -> tuple[bytes, str]:
    """A line of the log and its sha256, in canonical JSON.

    mac: HMAC of key id, sha256 of the line before, and record. sha256: of these and the mac.
    """
    content = {"kid": ring.active, "prev_sha256": before, "record": record}
    content["mac"] = _mac(content, ring.keys[ring.active])
    sha256 = digest.sha256_json(content)
    return digest.canonical_json({**content, "sha256": sha256}) + b"\n", sha256


def read_records(path: Path, ring: KeyRing | None = None) -> Iterator[tuple[ChainState, dict[str, Any] | None]]:
    """The chain up to each line with the record of that line, and at the end the whole chain with None.

    ring: keys that check the signatures; without a ring only the chain is checked. Reading ends at the first fault.

    Raises ArtifactError where the log cannot be read.
    """
    chain = ChainState()
    try:
        with path.open("rb") as stream:
            while line := stream.readline(LONGEST_LINE):
                if len(line) == LONGEST_LINE:  # a crash cannot cause this, so it is a fault and not a torn line
                    chain = replace(chain, fault=f"longer than any record: {LONGEST_LINE} bytes or more")
                    break
                if not line.endswith(b"\n"):
                    remaining = len(line) + os.fstat(stream.fileno()).st_size - stream.tell()
                    chain = replace(chain, torn=remaining)
                    break
                fault, content = _check_line(line, chain.head, ring)
                if fault or content is None:
                    chain = replace(chain, fault=fault)
                    break
                unchecked = chain.unchecked + (ring is None or content["kid"] not in ring.keys)
                chain = ChainState(chain.lines + 1, content["sha256"], unchecked=unchecked)
                yield chain, content["record"]
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror or error}", fix="name a provenance.jsonl") from None
    yield chain, None


def verify_log(path: Path, ring: KeyRing | None = None) -> ChainState:
    """Read a log to its end or to its first fault. Raises as `read_records` does."""
    state = ChainState()
    for chain, _ in read_records(path, ring):
        state = chain
    return state


def _check_line(line: bytes, before: str, ring: KeyRing | None) -> tuple[str, dict[str, Any] | None]:
    """The fault of a line, or empty and its content."""
    try:
        content = json.loads(line)
        if not isinstance(content, dict) or set(content) != _KEYS or not isinstance(content["record"], dict):
            return "not a record of a decision", None
        # a line has one valid form, so that no change goes unnoticed
        canonical = digest.canonical_json(content) + b"\n"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}", None
    if canonical != line:
        return "not written in canonical form", None
    if content["prev_sha256"] != before:
        return "does not follow the line before it", None
    covered = {name: value for name, value in content.items() if name != "sha256"}
    if content["sha256"] != digest.sha256_json(covered):
        return "its digest does not match", None
    mac, key = covered.pop("mac"), ring.keys.get(str(content["kid"])) if ring else None
    if key and not (isinstance(mac, str) and hmac.compare_digest(_mac(covered, key), mac)):
        return "its signature is wrong", None
    return "", content


def _mac(content: Mapping[str, Any], key: bytes) -> str:
    return hmac.new(key, _DOMAIN + digest.canonical_json(content), hashlib.sha256).hexdigest()


class ProvenanceLog:
    """A log that this process alone writes to.

    repaired: message on a torn line that opening the log moved away; empty where the log was complete.
    """

    def __init__(self, path: Path, ring: KeyRing) -> None:
        """Open or start a log, and read it to its end.

        Bytes after the last line end, which a crash leaves, move to a file beside the log, and a record states it.

        Raises UsageError where the log cannot be written or another process writes to it, ArtifactError where a line is
        not valid.
        """
        self.path, self._ring, self.repaired, self._incomplete = path, ring, "", False
        self._stream = _open_log(path)
        try:
            _lock_log(self._stream, path)
            chain = verify_log(path, ring)
            if chain.fault:
                fix = f"mv {path} {path}.broken, examine it, and start another log"
                raise ArtifactError(f"{path}:{chain.lines + 1}: {chain.fault}", fix)
            self.lines, self.head = chain.lines, chain.head
            self._size = os.fstat(self._stream.fileno()).st_size - chain.torn
            if chain.torn:
                self._repair(chain)
            digest.fsync_path(path.parent)
        except BaseException:
            self._stream.close()
            raise

    @property
    def signing(self) -> str:
        """The id of the key that signs."""
        return self._ring.active

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add records, and return when they are on disk.

        Where that fails (OSError), the written part is removed and no record counts. If the removal fails too, the
        log takes no further records.
        """
        if self._incomplete:
            raise OSError(f"{self.path}: an earlier line is incomplete")
        self._check_still_there()
        lines, head = [], self.head
        for record in records:
            line, head = encode_record(record, head, self._ring)
            lines.append(line)
        data = b"".join(lines)
        try:
            written = 0
            while written < len(data):
                written += self._stream.write(data[written:]) or 0
            os.fsync(self._stream.fileno())
        except OSError:
            self._incomplete = True
            os.ftruncate(self._stream.fileno(), self._size)
            self._incomplete = False
            raise
        self.lines, self.head, self._size = self.lines + len(lines), head, self._size + len(data)

    def close(self) -> None:
        """Close the log, so that other processes can write to it."""
        self._stream.close()

    def __enter__(self) -> ProvenanceLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_still_there(self) -> None:
        """Raises OSError where another process moved, replaced or wrote to the file: our lines would be lost."""
        opened, current = os.fstat(self._stream.fileno()), os.stat(self.path)
        if not os.path.samestat(opened, current):
            raise OSError(f"{self.path}: is not the file that was opened")
        if current.st_size != self._size:
            raise OSError(
                f"{self.path}: has {current.st_size} bytes, expected {self._size}: another program wrote to it"
            )

    def _repair(self, chain: ChainState) -> None:
        """Move the torn end into a file of its own, and record that."""
        with self.path.open("rb") as stream:
            stream.seek(self._size)
            torn = stream.read()
        beside = self.path.with_name(f"{self.path.name}.torn-{chain.lines + 1}-{digest.sha256_bytes(torn)[:8]}")
        digest.write_atomically(beside, torn)
        os.ftruncate(self._stream.fileno(), self._size)
        self.append([{"kind": "torn", "file": beside.name, "bytes": len(torn), "sha256": digest.sha256_bytes(torn)}])
        self.repaired = f"line {chain.lines + 1} was incomplete: its {len(torn)} bytes are now in {beside.name}"


def _open_log(path: Path) -> Any:
    """Open a regular file to append to; make it and its folder if needed. Raises UsageError."""
    fix = "--log FILE, in a writable folder"
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: is not a regular file", fix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+b", buffering=0)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", fix) from None


def _lock_log(stream: BinaryIO | Any, path: Path) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"{path}: another process writes to it", fix="stop that process, or name another log"
        ) from None

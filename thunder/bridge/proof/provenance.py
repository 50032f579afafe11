"""The provenance log: every decision, rejected ones too, each chained to the one before it and signed."""

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

GENESIS_DIGEST = "0" * 64  # what the first line follows
LONGEST_LINE = 1 << 24
_DOMAIN = b"thunder agp provenance 1\0"
_KEYS = {"kid", "mac", "prev_sha256", "record", "sha256"}


@dataclass(frozen=True)
class ChainState:
    """What reading a log found.

    lines: whole lines that hold, from the first. head: sha256 of the last of them. fault: what is wrong with the next
    one, or nothing. torn: bytes after the last line end. unchecked: lines whose key is not at hand.
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
    """The chain up to each line with that line's record, and at the end the whole chain with None.

    ring: keys that the signatures are checked with; without them the chain alone is. Nothing comes after a fault.
    Raises ArtifactError where the log cannot be read.
    """
    chain = ChainState()
    try:
        with path.open("rb") as stream:
            while line := stream.readline(LONGEST_LINE):
                if len(line) == LONGEST_LINE:  # no crash leaves that behind: what follows must not be taken for torn
                    chain = replace(chain, fault=f"longer than any record: {LONGEST_LINE} bytes or more")
                    break
                if not line.endswith(b"\n"):
                    rest = len(line) + os.fstat(stream.fileno()).st_size - stream.tell()
                    chain = replace(chain, torn=rest)
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
    """Read a log to its end or to its first fault. Raises as `records` does."""
    found = ChainState()
    for chain, _ in read_records(path, ring):
        found = chain
    return found


def _check_line(line: bytes, before: str, ring: KeyRing | None) -> tuple[str, dict[str, Any] | None]:
    """What is wrong with a line, or its content."""
    try:
        content = json.loads(line)
        if not isinstance(content, dict) or set(content) != _KEYS or not isinstance(content["record"], dict):
            return "no record of a decision", None
        # whatever reads back the same could have been changed: there is one way to write a line
        canonical = digest.canonical_json(content) + b"\n"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}", None
    if canonical != line:
        return "not written in canonical form", None
    if content["prev_sha256"] != before:
        return "does not follow the line before it", None
    covered = {name: value for name, value in content.items() if name != "sha256"}
    if content["sha256"] != digest.sha256_json(covered):
        return "it is not what was digested", None
    mac, key = covered.pop("mac"), ring.keys.get(str(content["kid"])) if ring else None
    if key and not (isinstance(mac, str) and hmac.compare_digest(_mac(covered, key), mac)):
        return "its signature is wrong", None
    return "", content


def _mac(content: Mapping[str, Any], key: bytes) -> str:
    return hmac.new(key, _DOMAIN + digest.canonical_json(content), hashlib.sha256).hexdigest()


class ProvenanceLog:
    """A log that is written to, by this process alone.

    repaired: what opening it did about a line that was cut off, for people; empty where it was whole.
    """

    def __init__(self, path: Path, ring: KeyRing) -> None:
        """Open or begin a log, and read it to its end.

        What stands after the last line end, as a crash leaves it, is moved to a file beside the log, and a record says
        so.
        Raises UsageError where it cannot be written or another process writes to it, ArtifactError where a line of it
        does not hold.
        """
        self.path, self._ring, self.repaired, self._stuck = path, ring, "", False
        self._stream = _open_log(path)
        try:
            _lock_log(self._stream, path)
            chain = verify_log(path, ring)
            if chain.fault:
                fix = f"mv {path} {path}.broken, look into it, and begin another"
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

        Where that fails (OSError), what was written of them is taken away again and none of them counts; if even that
        fails, nothing is added any more.
        """
        if self._stuck:
            raise OSError(f"{self.path}: an earlier line is half written")
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
            self._stuck = True
            os.ftruncate(self._stream.fileno(), self._size)
            self._stuck = False
            raise
        self.lines, self.head, self._size = self.lines + len(lines), head, self._size + len(data)

    def close(self) -> None:
        """Close it, which lets others write to it."""
        self._stream.close()

    def __enter__(self) -> ProvenanceLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_still_there(self) -> None:
        """Raises OSError where others moved, replaced or wrote to the file: nobody would find our lines."""
        ours, there = os.fstat(self._stream.fileno()), os.stat(self.path)
        if not os.path.samestat(ours, there):
            raise OSError(f"{self.path}: is another file than the one that was opened")
        if there.st_size != self._size:
            raise OSError(f"{self.path}: has {there.st_size} bytes, {self._size} of them ours: another program wrote")

    def _repair(self, chain: ChainState) -> None:
        """Move the torn end into a file of its own, and write down that it was done."""
        with self.path.open("rb") as stream:
            stream.seek(self._size)
            torn = stream.read()
        beside = self.path.with_name(f"{self.path.name}.torn-{chain.lines + 1}-{digest.sha256_bytes(torn)[:8]}")
        digest.write_atomically(beside, torn)
        os.ftruncate(self._stream.fileno(), self._size)
        self.append([{"kind": "torn", "file": beside.name, "bytes": len(torn), "sha256": digest.sha256_bytes(torn)}])
        self.repaired = f"line {chain.lines + 1} was cut off: its {len(torn)} bytes are in {beside.name} now"


def _open_log(path: Path) -> Any:
    """A regular file to add to, made with its folder where there is none. Raises UsageError."""
    fix = "--log FILE, in a folder that can be written to"
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: is no regular file", fix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+b", buffering=0)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", fix) from None


def _lock_log(stream: BinaryIO | Any, path: Path) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"{path}: another process writes to it", fix="stop that one, or name another log") from None

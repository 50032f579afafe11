"""Store cache entries of rows on disk: one file for each rank, with a digest for each entry, to detect torn ones.

A file is a sequence of entries: MAGIC, key [32], length of the content (8 bytes), SHA-256 over all of it [32], content.
Needs no MLX.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType

import numpy as np

MAGIC = b"THUNDER1"
_HEADER = struct.Struct("<8s32sQ32s")
SUFFIX = ".entries"


@dataclass(frozen=True, slots=True)
class _EntryLocation:
    """The content of an entry: bytes start to start + length of a file, and the digest that its header gives."""

    path: Path
    start: int
    length: int
    digest: bytes


def prefix_cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of the entries of all base models and runs."""
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thunder" / "prefix"


class PrefixCache:
    """Entries of one fingerprint (weights, tokenizer, layers ...); reads the files of all ranks and writes its own."""

    def __init__(self, root: Path, fingerprint: str, budget: int, rank: int = 0) -> None:
        """root: folder of all fingerprints. fingerprint: a SHA-256. budget: the most bytes of this rank's own file."""
        self.folder, self.budget = root / fingerprint[:32], budget
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = self._open_own_file(rank)
        self._locations = {key: location for path in self._files() for key, location in _scan_entries(path)}
        self._verified: set[bytes] = set()
        self._maps: dict[Path, mmap.mmap] = {}
        self._end = self._truncate_own_file()

    def _open_own_file(self, rank: int) -> FileIO:
        """The first of this rank's files that no other process has locked."""
        number = 0
        while True:
            stream = (self.folder / f"rank{rank}-{number}{SUFFIX}").open("a+b", buffering=0)
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.utime(stream.name)  # `evict_entries` takes this as the time of the last use
                return stream
            except BlockingIOError:
                stream.close()
                number += 1

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{SUFFIX}"))

    def _truncate_own_file(self) -> int:
        """Cut the own file after the last entry that can be reached; drops what a killed process left there."""
        own = Path(self._file.name)
        end = max((each.start + each.length for each in self._locations.values() if each.path == own), default=0)
        self._file.truncate(end)
        self._file.seek(end)
        return end

    @property
    def size(self) -> int:
        """Bytes of the own file."""
        return self._end

    def has_entry(self, key: bytes) -> bool:
        """Whether there is a whole entry; its digest is checked at the first call."""
        location = self._locations.get(key)
        if location is None:
            return False
        if key not in self._verified:
            if _digest(key, self._content(location)) != location.digest:
                del self._locations[key]
                return False
            self._verified.add(key)
        return True

    def get(self, key: bytes) -> np.ndarray | None:
        """The bytes of an entry, in the file's memory map; None where there is no whole one."""
        return np.frombuffer(self._content(self._locations[key]), np.uint8) if self.has_entry(key) else None

    def put(self, key: bytes, content: np.ndarray) -> bool:
        """Append an entry; False where the budget or the disk has no room for it."""
        data = content.tobytes()
        if self._end + stored_size(len(data)) > self.budget:
            return False
        digest = _digest(key, data)
        if not self._append(_HEADER.pack(MAGIC, key, len(data), digest) + data):
            self._file.truncate(self._end)
            self.budget = self._end
            return False
        start = self._end + _HEADER.size
        self._locations[key] = _EntryLocation(Path(self._file.name), start, len(data), digest)
        self._verified.add(key)
        self._end = start + len(data)
        return True

    def _append(self, data: bytes) -> bool:
        """Write at the end; False where the disk is full."""
        try:
            return self._file.write(data) == len(data)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False

    def flush(self) -> None:
        """Flush the own file to disk."""
        os.fsync(self._file.fileno())

    def _content(self, location: _EntryLocation) -> memoryview:
        end = location.start + location.length
        mapped = self._maps.get(location.path)
        if mapped is None or len(mapped) < end:
            with location.path.open("rb") as stream:
                mapped = self._maps[location.path] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return memoryview(mapped)[location.start : end]

    def close(self) -> None:
        """Close the own file, so that another process can write it."""
        self._file.close()

    def __enter__(self) -> PrefixCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def stored_size(content: int) -> int:
    """Bytes in a file of an entry with `content` bytes."""
    return _HEADER.size + content


def _digest(key: bytes, content: bytes | memoryview) -> bytes:
    return hashlib.sha256(key + len(content).to_bytes(8, "little") + hashlib.sha256(content).digest()).digest()


def _scan_entries(path: Path) -> Iterator[tuple[bytes, _EntryLocation]]:
    """The entries of a file that can be reached from header to header; their content is not read."""
    length, at = path.stat().st_size, 0
    with path.open("rb") as stream:
        while at + _HEADER.size <= length:
            stream.seek(at)
            header = stream.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return
            magic, key, size, digest = _HEADER.unpack(header)
            start = at + _HEADER.size
            if magic != MAGIC or size > length - start:
                return
            yield key, _EntryLocation(path, start, size, digest)
            at = start + size


def evict_entries(root: Path, fingerprint: str, limit: int) -> int:
    """Delete files of other fingerprints, the least recently used first, until the rest has at most `limit` bytes.

    Files that a process has locked stay. Returns the bytes of other fingerprints that are left.
    """
    files = [path for path in root.glob(f"*/*{SUFFIX}") if path.parent.name != fingerprint[:32]]
    stats = {path: path.stat() for path in files}
    left = sum(stat.st_size for stat in stats.values())
    for path in sorted(files, key=lambda each: stats[each].st_mtime):
        if left <= limit:
            break
        with path.open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            path.unlink()
        left -= stats[path].st_size
    return left

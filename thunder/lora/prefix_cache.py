"""Entries of rows on disk: a file for each rank, each entry with its digest, so that a torn one is made again.

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
_HEAD = struct.Struct("<8s32sQ32s")
ENDING = ".entries"


@dataclass(frozen=True, slots=True)
class _Place:
    path: Path
    start: int
    length: int
    digest: bytes


def folder_of_entries(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the entries of all base models and runs lie."""
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thunder" / "prefix"


class PrefixCache:
    """Entries of one fingerprint (weights, tokenizer, layers ...); reads the files of all ranks and writes its own."""

    def __init__(self, root: Path, fingerprint: str, room: int, rank: int = 0) -> None:
        """root: folder of all fingerprints. fingerprint: a SHA-256. room: the most bytes of this rank's own file."""
        self.folder, self.room = root / fingerprint[:32], room
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = self._own(rank)
        self._places = {key: place for path in self._files() for key, place in _scan(path)}
        self._checked: set[bytes] = set()
        self._maps: dict[Path, mmap.mmap] = {}
        self._end = self._whole_end()

    def _own(self, rank: int) -> FileIO:
        """The first of this rank's files that no other process has locked."""
        number = 0
        while True:
            stream = (self.folder / f"rank{rank}-{number}{ENDING}").open("a+b", buffering=0)
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.utime(stream.name)  # used now: `make_room` goes by it
                return stream
            except BlockingIOError:
                stream.close()
                number += 1

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{ENDING}"))

    def _whole_end(self) -> int:
        """Cut the own file behind its last entry that can be walked to; whatever a killed process left there goes."""
        own = Path(self._file.name)
        end = max((p.start + p.length for p in self._places.values() if p.path == own), default=0)
        self._file.truncate(end)
        self._file.seek(end)
        return end

    @property
    def size(self) -> int:
        """Bytes of the own file."""
        return self._end

    def holds(self, key: bytes) -> bool:
        """Whether there is an entry, found to be whole; it is read once for that."""
        place = self._places.get(key)
        if place is None:
            return False
        if key not in self._checked:
            if _digest(key, self._content(place)) != place.digest:
                del self._places[key]
                return False
            self._checked.add(key)
        return True

    def get(self, key: bytes) -> np.ndarray | None:
        """The bytes of an entry, in the file's memory map; None where there is none that is whole."""
        return np.frombuffer(self._content(self._places[key]), np.uint8) if self.holds(key) else None

    def put(self, key: bytes, content: np.ndarray) -> bool:
        """Append an entry; False where there is no room for it, by the limit or on the disk."""
        data = content.tobytes()
        if self._end + entry_size(len(data)) > self.room:
            return False
        digest = _digest(key, data)
        if not self._append(_HEAD.pack(MAGIC, key, len(data), digest) + data):
            self._file.truncate(self._end)
            self.room = self._end
            return False
        start = self._end + _HEAD.size
        self._places[key] = _Place(Path(self._file.name), start, len(data), digest)
        self._checked.add(key)
        self._end = start + len(data)
        return True

    def _append(self, data: bytes) -> bool:
        """Write behind the end; False where the disk is full."""
        try:
            return self._file.write(data) == len(data)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False

    def flush(self) -> None:
        """Bring what was put onto the disk."""
        os.fsync(self._file.fileno())

    def _content(self, place: _Place) -> memoryview:
        end = place.start + place.length
        found = self._maps.get(place.path)
        if found is None or len(found) < end:
            with place.path.open("rb") as stream:
                found = self._maps[place.path] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return memoryview(found)[place.start : end]

    def close(self) -> None:
        """Let another process write the file."""
        self._file.close()

    def __enter__(self) -> PrefixCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def entry_size(content: int) -> int:
    """Bytes that an entry of so many bytes has in a file."""
    return _HEAD.size + content


def _digest(key: bytes, content: bytes | memoryview) -> bytes:
    return hashlib.sha256(key + len(content).to_bytes(8, "little") + hashlib.sha256(content).digest()).digest()


def _scan(path: Path) -> Iterator[tuple[bytes, _Place]]:
    """The entries of a file as far as its heads lead; what they hold is not looked at."""
    length, at = path.stat().st_size, 0
    with path.open("rb") as stream:
        while at + _HEAD.size <= length:
            stream.seek(at)
            head = stream.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return
            magic, key, size, digest = _HEAD.unpack(head)
            start = at + _HEAD.size
            if magic != MAGIC or size > length - start:
                return
            yield key, _Place(path, start, size, digest)
            at = start + size


def make_room(root: Path, keep: str, limit: int) -> int:
    """Delete files of other fingerprints, the least recently used first, until the rest has at most `limit` bytes.

    Files that a process has locked stay. Returns the bytes of other fingerprints that are left.
    """
    files = [path for path in root.glob(f"*/*{ENDING}") if path.parent.name != keep[:32]]
    sizes = {path: path.stat() for path in files}
    left = sum(stat.st_size for stat in sizes.values())
    for path in sorted(files, key=lambda each: sizes[each].st_mtime):
        if left <= limit:
            break
        with path.open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            path.unlink()
        left -= sizes[path].st_size
    return left

"""Find the truncation of OGG files, which libsndfile does not report."""

from __future__ import annotations

import struct
from pathlib import Path

from thunder.acoustic.sound_files.sound_fault import COPY_AGAIN, sound_fault

_PAGE = struct.Struct("<4sBBqIIIB")
_LONGEST = 65536  # bytes; RFC 3533 allows 65307


def check_ogg(path: Path, size: int) -> None:
    """Raises CorpusError if the last page is not whole."""
    with path.open("rb") as stream:
        stream.seek(max(0, size - 2 * _LONGEST))
        tail = stream.read()
    if missing := _missing_of_last_page(tail):
        raise sound_fault(path, f"is truncated: its last page lacks {missing} bytes", COPY_AGAIN)


def _missing_of_last_page(tail: bytes) -> int:
    """Number of bytes that the last page of a truncated OGG file lacks (RFC 3533, section 6)."""
    start = tail.rfind(b"OggS")
    if start < 0 or len(tail) - start < _PAGE.size - 1:
        return 1
    segments = tail[start + 26]
    lengths = tail[start + 27 : start + 27 + segments]
    return max(0, 27 + segments + sum(lengths) - (len(tail) - start))

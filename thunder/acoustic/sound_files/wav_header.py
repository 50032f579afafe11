"""Compare the sizes in a WAV header with the file, and replace the placeholder sizes of a stream."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from thunder.acoustic.sound_files.sound_fault import COPY_AGAIN, sound_fault

# A program that writes to a pipe cannot return to the header. It leaves 0, or a size of about 2 or 4 GiB: 0xFFFFFFFF
# (ffmpeg), 0x7FFFF000 and 0x7FFFFFFF (SoX), 0x80000000 (arecord), each with or without the 36 bytes of the header.
_SMALLEST_PLACEHOLDER = 0x7FFF0000
_MAX_CHUNKS = 1000
_TAGS = (b"TAG", b"ID3", b"APETAGEX")  # metadata of music players, appended behind the RIFF chunk
# formats of fixed blocks: the last block is padded, and the `fact` chunk has the number of samples
_BLOCK_FORMATS = (0x02, 0x11, 0x31)
_REWRITE = "rewrite its header, for example with `ffmpeg -ignore_length 1 -i OLD NEW.wav`"
NO_LENGTH = "had no length in its header"  # a note
_ReadAt = Callable[[int, int], bytes]  # (position, bytes to read)


@dataclass(frozen=True)
class WavHeader:
    """repaired: the whole file with right sizes, None if the file can be read as it is. frames: of the `fact` chunk,
    where the format pads its last block. notes: unusual properties.
    """

    repaired: io.BytesIO | None = None
    frames: int | None = None
    notes: tuple[str, ...] = ()


def is_wav(head: bytes) -> bool:
    """True for the first 12 bytes of a RIFF WAVE file."""
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE"


def check_wav(path: Path, size: int, head: bytes) -> WavHeader:
    """Compare the RIFF and `data` sizes with the file of `size` bytes, which begins with `head`.

    Raises CorpusError if they contradict the file.
    """

    def read_at(position: int, count: int) -> bytes:
        if position + count <= len(head):
            return head[position : position + count]
        with path.open("rb") as stream:
            stream.seek(position)
            return stream.read(count)

    riff = int.from_bytes(head[4:8], "little")
    riff_end = size if riff <= 36 or _is_placeholder(riff, size - 8) else riff + 8
    if riff_end > size + 1:  # some writers do not count the padding byte
        raise sound_fault(path, f"is truncated: {size} bytes of {riff_end}", COPY_AGAIN)
    position, format_tag, frames = 12, 0, None
    for _ in range(_MAX_CHUNKS):
        name, length = _chunk_header(read_at, position)
        start = position + 8
        if name == b"data":
            frames = frames if format_tag in _BLOCK_FORMATS else None
            return _check_data(path, read_at, start, length, riff_end, size, frames)
        if not name or start + length > size:
            break
        if name == b"fmt ":
            format_tag = int.from_bytes(read_at(start, 2), "little")
        elif name == b"fact":
            frames = int.from_bytes(read_at(start, 4), "little")
        position = start + length + length % 2
    return WavHeader()  # no `data` chunk: the decoder reports it


def _check_data(
    path: Path, read_at: _ReadAt, start: int, length: int, riff_end: int, size: int, frames: int | None
) -> WavHeader:
    """The header whose `data` chunk has its content at `start`."""
    present = size - start
    if _is_placeholder(length, present) or (length == 0 and not _are_chunks(read_at, start, size)):
        return WavHeader(_with_sizes(path, start, present), None, (NO_LENGTH,))
    if length > present:
        reason = f"is truncated: its data chunk states {length} bytes, and {present} follow"
        raise sound_fault(path, reason, COPY_AGAIN)
    end = start + length + length % 2
    inside = max(end, min(size, riff_end))
    if not _are_chunks(read_at, end, inside):
        reason = f"its data chunk states {length} bytes, but {inside - end} more bytes follow that are no chunk"
        raise sound_fault(path, reason, _REWRITE)
    if not _are_chunks(read_at, inside, size):
        rest = read_at(inside, size - inside)
        if rest.strip(b"\0") and not rest.startswith(_TAGS):
            raise sound_fault(path, f"{len(rest)} bytes follow the end that its header states", _REWRITE)
        return WavHeader(None, frames, ("has bytes behind its end",))
    return WavHeader(None, frames)


def _is_placeholder(length: int, present: int) -> bool:
    return length >= _SMALLEST_PLACEHOLDER and length > present


def _chunk_header(read_at: _ReadAt, position: int) -> tuple[bytes, int]:
    """(name, content bytes) of the chunk here; (b"", 0) at the end of the file."""
    header = read_at(position, 8)
    return (header[:4], int.from_bytes(header[4:], "little")) if len(header) == 8 else (b"", 0)


def _are_chunks(read_at: _ReadAt, position: int, end: int) -> bool:
    """True if only whole chunks lie from here to `end`; fewer bytes than a chunk's header are padding."""
    for _ in range(_MAX_CHUNKS):
        if end - position < 8:
            return True
        name, length = _chunk_header(read_at, position)
        if not all(32 <= byte < 127 for byte in name) or position + 8 + length > end:
            return False
        position += 8 + length + length % 2
    return False


def _with_sizes(path: Path, start: int, present: int) -> io.BytesIO:
    """The file with the size of `data`, whose content begins at `start`, and of RIFF set to the bytes that exist."""
    if start + present >= 1 << 32:
        raise sound_fault(path, "has no length in its header and more than 4 GiB", "split it into utterances")
    content = io.BytesIO(path.read_bytes())
    for position, value in ((4, start + present - 8), (start - 4, present)):
        content.seek(position)
        content.write(struct.pack("<I", value))
    content.seek(0)
    return content

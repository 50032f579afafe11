"""Count the frames of an MP3 file, so that a file without a header that states them is decoded to its end."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path

from thunder.acoustic.sound_files.sound_fault import COPY_AGAIN, sound_fault

# ISO/IEC 11172-3 and 13818-3, layer III: kbit/s by index; samples per second by version bits (3: MPEG 1, 2: 2, 0: 2.5)
_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_LAYER_3 = 1
_SAME = 0xFFFE0C00  # sync, version, layer and rate: equal in all frames of a file
_MAX_JUNK_SHARE = 0.05
_OTHER_KINDS = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b"caff", b".snd", b"riff")


@dataclass(frozen=True)
class Mp3File:
    """repaired: the file with a header that states all its frames, None if it can be read as it is."""

    repaired: io.BytesIO | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Frames:
    """spans: (start, end) of each whole frame with sound. stated: number in the Xing, Info or VBRI header, 0 without.
    missing: bytes that the last frame lacks. junk: bytes between frames.
    """

    spans: list[tuple[int, int]]
    stated: int
    missing: int
    junk: int


def may_be_mp3(path: Path, head: bytes) -> bool:
    """True for the first bytes of a tag or frame, and for files of this name that are of no other known kind."""
    if head[:3] == b"ID3" or head[:1] == b"\xff":
        return True
    return path.suffix.lower() == ".mp3" and head[:4] not in _OTHER_KINDS


def check_mp3(path: Path) -> Mp3File | None:
    """None if the file is not MPEG layer III. Raises CorpusError if frames are missing or other bytes lie between."""
    data = path.read_bytes()
    frames = _find_frames(data)
    if frames is None:
        return None
    count = len(frames.spans)
    if frames.stated > count + 1:  # some encoders count the frame of the header
        raise sound_fault(path, f"is truncated: {count} of {frames.stated} MP3 frames are there", COPY_AGAIN)
    if frames.missing and not frames.stated:
        raise sound_fault(path, f"is truncated: its last MP3 frame lacks {frames.missing} bytes", COPY_AGAIN)
    if frames.junk > _MAX_JUNK_SHARE * len(data):
        raise sound_fault(path, f"has {frames.junk} of {len(data)} bytes that are no MP3 frames of one kind")
    if frames.stated == count and not frames.junk:
        return Mp3File()
    if not frames.stated:
        note = "had no MP3 header with its length"
    elif frames.junk:
        note = "has bytes between its MP3 frames"
    else:
        note = "has more or fewer MP3 frames than its header states"
    header = _info_frame(data, frames.spans[0], count)
    return Mp3File(io.BytesIO(header + b"".join(data[start:end] for start, end in frames.spans)), (note,))


def _frame_bytes(word: int) -> int:
    """Bytes of the layer III frame with this header; 0 if it is none, or has the free format."""
    version, layer = word >> 19 & 3, word >> 17 & 3
    kbits, rate = word >> 12 & 15, word >> 10 & 3
    if word >> 21 != 0x7FF or version == 1 or layer != _LAYER_3 or kbits in (0, 15) or rate == 3:
        return 0
    if version == 3:
        return 144000 * _KBITS_1[kbits] // _RATES[3][rate] + (word >> 9 & 1)
    return 72000 * _KBITS_2[kbits] // _RATES[version][rate] + (word >> 9 & 1)


def _find_frames(data: bytes) -> _Frames | None:
    """The frames between the tags, None if there are no two in a row."""
    position, end = _skip_tags(data)
    words = struct.Struct(">I")
    position, found = _find_sync(data, position, end, None)
    if not found:
        return None
    kind = words.unpack_from(data, position)[0] & _SAME
    spans, missing, junk = [], 0, 0
    while position + 4 <= end:
        word = words.unpack_from(data, position)[0]
        length = _frame_bytes(word) if word & _SAME == kind else 0
        if not length:
            start = position
            position, found = _find_sync(data, position + 1, end, kind)
            # zeros and less than a frame's header behind the last frame are padding
            junk += position - start if found or data[start:end].strip(b"\0") else 0
            continue
        if position + length > end:
            missing = position + length - end
            break
        spans.append((position, position + length))
        position += length
    stated = _stated_frames(data[slice(*spans[0])])
    return _Frames(spans[1:] if stated is not None else spans, stated or 0, missing, junk) if len(spans) > 1 else None


def _find_sync(data: bytes, position: int, end: int, kind: int | None) -> tuple[int, bool]:
    """(position of the next frame that another or the end follows, True); (end, False) if there is none."""
    while 0 <= (position := data.find(b"\xff", position, end - 3)):
        word = int.from_bytes(data[position : position + 4])
        if (length := _frame_bytes(word)) and (kind is None or word & _SAME == kind):
            following = int.from_bytes(data[position + length : position + length + 4])
            if (_frame_bytes(following) and following & _SAME == word & _SAME) or position + length == end:
                return position, True
        position += 1
    return end, False


def _skip_tags(data: bytes) -> tuple[int, int]:
    """(start, end) of what lies between the ID3 and APE tags."""
    start, end = 0, len(data)
    while data[start : start + 3] == b"ID3" and len(data) >= start + 10:
        size = 0
        for byte in data[start + 6 : start + 10]:
            size = size << 7 | byte & 127
        start += 10 + size + (10 if data[start + 5] & 16 else 0)
    if data[-128:-125] == b"TAG":
        end -= 128
    if data[end - 32 : end - 24] == b"APETAGEX":
        size = int.from_bytes(data[end - 20 : end - 16], "little")
        end -= size + (32 if data[end - 9] & 128 else 0)
    return start, max(start, end)


def _info_offset(header: bytes) -> int:
    """Bytes before the Xing or Info mark in a frame: its header and the side information."""
    mono, version_1 = header[3] >> 6 == 3, header[1] >> 3 & 3 == 3
    return 4 + ((17 if mono else 32) if version_1 else (9 if mono else 17))


def _stated_frames(frame: bytes) -> int | None:
    """Number of frames in the Xing, Info or VBRI header of the first frame, 0 if it has no number; None without."""
    offset = _info_offset(frame)
    if frame[offset : offset + 4] in (b"Xing", b"Info"):
        has_count = len(frame) >= offset + 12 and frame[offset + 7] & 1
        return int.from_bytes(frame[offset + 8 : offset + 12]) if has_count else 0
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54])
    return None


def _info_frame(data: bytes, span: tuple[int, int], count: int) -> bytes:
    """A silent frame like that at `span`, with an Info header of `count` frames."""
    header = bytearray(data[span[0] : span[0] + 4])
    header[1] |= 1  # no checksum
    header[2] = header[2] & 0x0D | 0x80  # 112 or 64 kbit/s, no padding: room for the header at every rate
    length = _frame_bytes(int.from_bytes(header))
    content = bytes(header) + bytes(_info_offset(bytes(header)) - 4) + b"Info" + struct.pack(">II", 1, count)
    return content.ljust(length, b"\0")

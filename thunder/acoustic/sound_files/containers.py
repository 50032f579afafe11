"""Convert containers of phones and browsers, which libsndfile does not read, with ffmpeg or macOS's afconvert."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from thunder.acoustic.sound_files.sound_fault import sound_fault

# suffixes of files that are converted; their content decides the container
CONTAINER_SUFFIXES = (".m4a", ".mp4", ".mov", ".3gp", ".aac", ".webm", ".mka", ".mkv", ".amr", ".wma")
_TIMEOUT = 600  # seconds
_INSTALL = "install ffmpeg (`brew install ffmpeg`, `apt-get install ffmpeg`), or convert the file to FLAC"


def container_of(head: bytes) -> str | None:
    """The container that begins with these (at least 16) bytes, None if libsndfile may read it."""
    if head[4:8] == b"ftyp":
        return "MP4 (m4a, 3gp)"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "Matroska or WebM"
    if head[:5] == b"#!AMR":
        return "AMR"
    if head[:16] == bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"):
        return "Windows Media (wma)"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC (ADTS)"
    return None


def codec_of(head: bytes) -> str | None:
    """The container of a format that libsndfile knows, but perhaps not with this codec; None if it is none."""
    if head[:4] == b"caff":
        return "CAF with a compressed codec"
    if head[:4] == b"RIFF":
        return "WAV with a compressed codec"
    if head[:4] == b"OggS":
        return "OGG with a codec other than Vorbis, Opus or FLAC"
    return None


@contextmanager
def converted(path: Path, container: str) -> Generator[Path]:
    """A WAV file with the first sound track, at its own rate and channels; deleted at the end.

    Raises CorpusError if there is no converter, or if it reports an error.
    """
    with tempfile.TemporaryDirectory(prefix="thunder-sound-") as folder:
        wav = Path(folder) / "sound.wav"
        name, command = _command(path, container, wav)
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT
            )
        except subprocess.TimeoutExpired:
            raise sound_fault(path, f"{name} did not convert it in {_TIMEOUT} s") from None
        reported = " ".join(done.stderr.split())
        if done.returncode or reported or not wav.is_file():
            reason = reported or f"{name} ended with exit code {done.returncode}"
            fix = _INSTALL if name == "afconvert" else "copy it again, or repair it"
            raise sound_fault(path, f"is {container} that {name} cannot read without an error: {reason[:200]}", fix)
        yield wav


def _command(path: Path, container: str, wav: Path) -> tuple[str, list[str]]:
    """(program, its command line). Raises CorpusError if there is no program."""
    source = str(path.absolute())  # a relative name may begin with a hyphen
    if program := shutil.which("ffmpeg"):
        options = ["-nostdin", "-hide_banner", "-loglevel", "error", "-y", "-i", f"file:{source}", "-map", "0:a:0"]
        return "ffmpeg", [program, *options, "-c:a", "pcm_f32le", "-f", "wav", str(wav)]
    if program := shutil.which("afconvert"):
        return "afconvert", [program, "-f", "WAVE", "-d", "LEF32", source, str(wav)]
    raise sound_fault(path, f"is {container}, which needs ffmpeg or afconvert, and there is neither", _INSTALL)

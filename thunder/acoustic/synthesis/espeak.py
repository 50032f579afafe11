"""Run espeak-ng: report its version, and write phonemes as a WAV file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from thunder.errors import UsageError

PROGRAM = "espeak-ng"
TIMEOUT: float = 60  # seconds; no sentence takes as long
INSTALL_HINT = "install it: apt-get install espeak-ng, or brew install espeak-ng"


def espeak_version() -> str:
    """The version that espeak-ng reports. Raises UsageError if it is not installed or fails."""
    return _run_espeak(["--version"], "").split("  ")[0].strip()


def speak_phonemes(phonemes: str, voice: str, speed: int, out: Path) -> None:
    """Write a WAV file of phonemes in espeak-ng mnemonics; speed: words per minute.

    Raises UsageError with the program's message.
    """
    _run_espeak(["-v", voice, "-s", str(speed), "-w", str(out), "--stdin"], f"[[{phonemes}]]")
    # 44 bytes are a header alone
    if not out.is_file() or out.stat().st_size <= 44:
        raise UsageError(
            f"{PROGRAM} -v {voice} produced no sound for [[{phonemes}]]", f"{PROGRAM} --voices lists voices"
        )


def _run_espeak(options: list[str], text: str) -> str:
    program = shutil.which(PROGRAM)
    if program is None:
        raise UsageError(f"{PROGRAM} is not on this machine", INSTALL_HINT)
    try:
        process = subprocess.run(
            [program, *options], input=text, capture_output=True, encoding="utf-8", timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"{PROGRAM} {' '.join(options)} did not finish within {TIMEOUT} s", INSTALL_HINT) from None
    if process.returncode:
        words = (process.stderr or process.stdout).strip() or f"exit code {process.returncode}"
        raise UsageError(f"{PROGRAM} {' '.join(options)}: {words}", f"{PROGRAM} --voices lists voices")
    return process.stdout

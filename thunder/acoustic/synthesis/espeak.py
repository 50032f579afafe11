"""espeak-ng, a program that speaks phonemes: is it here, and what does it say as a WAV file?"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from thunder.errors import UsageError

PROGRAM = "espeak-ng"
LONGEST: float = 60  # seconds of computing that no sentence needs
ABSENT = "install it: apt-get install espeak-ng, or brew install espeak-ng"


def version() -> str:
    """What the program says of itself. Raises UsageError where it is not here or does not work."""
    return _run(["--version"], "").split("  ")[0].strip()


def speak(phonemes: str, voice: str, speed: int, out: Path) -> None:
    """Write a WAV file of phonemes in its mnemonics, at so many words a minute. Raises UsageError with its words."""
    _run(["-v", voice, "-s", str(speed), "-w", str(out), "--stdin"], f"[[{phonemes}]]")
    # 44 bytes are a header alone
    if not out.is_file() or out.stat().st_size <= 44:
        raise UsageError(f"{PROGRAM} -v {voice} said nothing for [[{phonemes}]]", f"{PROGRAM} --voices lists voices")


def _run(options: list[str], said: str) -> str:
    program = shutil.which(PROGRAM)
    if program is None:
        raise UsageError(f"{PROGRAM} is not on this machine", ABSENT)
    try:
        done = subprocess.run([program, *options], input=said, capture_output=True, encoding="utf-8", timeout=LONGEST)
    except subprocess.TimeoutExpired:
        raise UsageError(f"{PROGRAM} {' '.join(options)} did not end within {LONGEST} s", ABSENT) from None
    if done.returncode:
        words = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise UsageError(f"{PROGRAM} {' '.join(options)}: {words}", f"{PROGRAM} --voices lists voices")
    return done.stdout

"""Types for quantities with units, and functions that format and parse them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NewType

Seconds = NewType("Seconds", float)
Bytes = NewType("Bytes", int)
_SIZES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def format_bytes(count: float) -> str:
    """Format bytes: 1536 -> '1.5 kB' (decimal units, as for disks and links)."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def parse_bytes(text: str) -> Bytes:
    """Parse '4GB', '1.5 GB', '4G' or '300' to bytes, in the units of `format_bytes`. Raises ValueError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?B?)", text.strip().upper())
    if not match:
        raise ValueError(f"expected a size such as 4GB or 500MB, not '{text}'")
    return Bytes(round(float(match[1]) * _SIZES[match[2].removesuffix("B") + "B"]))


def format_seconds(seconds: float) -> str:
    """Format seconds: 0.25 -> '0.2 s', 75 -> '1:15', 3700 -> '1:01:40'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def format_count(count: float) -> str:
    """Format a count: 1234567 -> '1.23 M'."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= limit:
            return f"{count / limit:.3g} {unit}"
    return f"{count:.0f}"


def format_path(path: Path) -> str:
    """Format a path as short as possible: relative if it is below the working directory."""
    path, here = path.absolute(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)

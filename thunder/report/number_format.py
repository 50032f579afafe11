"""Format numbers and names for the page and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def format_rate(value: float | None) -> str:
    """Format a rate with four digits; a dash for None."""
    return "–" if value is None else f"{value:.4f}"


def format_interval(change: float | None, bounds: Sequence[float] | None) -> str:
    """Format a change with its interval, signed."""
    if change is None or bounds is None:
        return "–"
    return f"{change:+.4f} [{bounds[0]:+.4f}, {bounds[1]:+.4f}]"


def describe_change(change: float | None, bounds: Sequence[float] | None) -> str:
    """Describe what the interval of a change of an error rate shows."""
    if change is None or bounds is None:
        return "nothing to compare"
    return "better" if bounds[1] < 0 else "worse" if bounds[0] > 0 else "no difference shown"


def format_fact(name: str, value: Any) -> tuple[str, str]:
    """Format a named value: digests and commits are cut to twelve digits, also behind a name and @."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    before, at, end = text.rpartition("@")
    is_digest = len(end) in (40, 64) and all(digit in "0123456789abcdef" for digit in end)
    return name.replace("_", " "), f"{before}{at}{end[:12]}" if is_digest else text

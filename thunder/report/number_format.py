"""Numbers and names as the page and the command line print them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def format_rate(value: float | None) -> str:
    """A rate with four digits, or a dash where there is none."""
    return "–" if value is None else f"{value:.4f}"


def format_interval(change: float | None, bounds: Sequence[float] | None) -> str:
    """A change with its interval, signed."""
    if change is None or bounds is None:
        return "–"
    return f"{change:+.4f} [{bounds[0]:+.4f}, {bounds[1]:+.4f}]"


def describe_change(change: float | None, bounds: Sequence[float] | None) -> str:
    """What the interval of a change of an error rate shows."""
    if change is None or bounds is None:
        return "nothing to compare"
    return "better" if bounds[1] < 0 else "worse" if bounds[0] > 0 else "no difference shown"


def format_fact(name: str, value: Any) -> tuple[str, str]:
    """A named value for people: digests and commits by their first twelve digits, behind a name and @ too."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    before, at, end = text.rpartition("@")
    is_digest = len(end) in (40, 64) and all(digit in "0123456789abcdef" for digit in end)
    return name.replace("_", " "), f"{before}{at}{end[:12]}" if is_digest else text

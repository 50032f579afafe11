"""Bins that rows are put into by a number, each named by its limits."""

from __future__ import annotations

from collections.abc import Sequence

LENGTHS = (20, 50, 100, 200)  # code points of a reference


def name_of(value: float, limits: Sequence[float], form: str) -> str:
    """The name of the first bin whose upper limit a value keeps; the last has none."""
    over = [limit for limit in limits if value > limit]
    to = f"to {limits[len(over)]:{form}}" if len(over) < len(limits) else ""
    return " ".join([*([f"over {over[-1]:{form}}"] if over else []), *([to] if to else [])])


def of_length(code_points: int) -> str:
    """The bin of a reference by its length."""
    return name_of(code_points, LENGTHS, "d")


# the bins of lengths, in their order
NAMES_OF_LENGTHS = tuple(of_length(limit) for limit in (*LENGTHS, LENGTHS[-1] + 1))

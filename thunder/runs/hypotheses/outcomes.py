"""Parse the outcomes of a hypothesis: disjoint intervals that cover the whole line."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

UNDETERMINED, OTHERWISE = "undetermined", "otherwise"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_FORM = re.compile(rf"\s*(?:({_NUMBER})\s*(<=?)\s*)?x\s*(?:(<=?|>=?|==)\s*({_NUMBER}))?\s*")
EXPECTED = "'x < 9.5', '9.5 <= x < 9.7', 'x == 0', or 'otherwise'"


@dataclass(frozen=True, order=True)
class Interval:
    """An interval of numbers; `after` and `upto` say whether each end belongs to it.

    after: 0 = low belongs to it, 1 = it begins after low. upto: 1 = high belongs to it, 0 = it ends before high.
    """

    low: float
    after: int
    high: float
    upto: int

    def holds(self, x: float) -> bool:
        """Whether a number lies in the interval."""
        return (self.low < x or (self.low == x and not self.after)) and (
            x < self.high or (x == self.high and bool(self.upto))
        )

    @property
    def start(self) -> tuple[float, int]:
        """Where the interval begins, comparable with an `end`."""
        return self.low, self.after

    @property
    def end(self) -> tuple[float, int]:
        """Where the next interval would begin."""
        return self.high, self.upto


def parse_interval(text: str) -> Interval | None:
    """Parse an outcome's condition on `x`; None for 'otherwise'. Raises ValueError where it is neither."""
    if text.strip() == OTHERWISE:
        return None
    match = _FORM.fullmatch(text)
    if not match or not (match[1] or match[4]):
        raise ValueError(f"{text!r}: expected {EXPECTED}")
    low, after, high, upto = -math.inf, 0, math.inf, 1
    if match[1]:
        low, after = float(match[1]), int(match[2] == "<")
    if match[4]:
        number, sign = float(match[4]), match[3]
        if sign == "==" and not match[1]:
            low, after, high, upto = number, 0, number, 1
        elif sign in ("<", "<="):
            high, upto = number, int(sign == "<=")
        elif match[1]:
            raise ValueError(f"{text!r}: expected {EXPECTED}")
        else:
            low, after = number, int(sign == ">")
    interval = Interval(low, after, high, upto)
    if interval.start >= interval.end:
        raise ValueError(f"{text!r}: the interval is empty")
    return interval


def interval_faults(conditions: Sequence[str]) -> list[str]:
    """List the faults of a list of conditions: overlaps, and parts of the line without an outcome (pure)."""
    faults, parsed = [], []
    for text in conditions:
        try:
            parsed.append((parse_interval(text), text))
        except ValueError as error:
            faults.append(str(error))
    if faults:
        return faults
    ordered = sorted((each, text) for each, text in parsed if each is not None)
    otherwise_count = len(parsed) - len(ordered)
    faults += [f"'{OTHERWISE}' occurs {otherwise_count} times"] if otherwise_count > 1 else []
    for (interval, text), (next_interval, next_text) in zip(ordered, ordered[1:], strict=False):
        if next_interval.start < interval.end:
            faults.append(f"'{text}' and '{next_text}' overlap")
    if not otherwise_count:
        covered_to: tuple[float, int] = (-math.inf, 0)
        for each, _ in ordered:
            faults += [_gap(covered_to, each.start)] if each.start > covered_to else []
            covered_to = max(covered_to, each.end)
        faults += [_gap(covered_to, (math.inf, 1))] if covered_to < (math.inf, 1) else []
    return faults


def _gap(start: tuple[float, int], end: tuple[float, int]) -> str:
    left = f"{start[0]:g} {'<' if start[1] else '<='} " if start[0] > -math.inf else ""
    right = f" {'<=' if end[1] else '<'} {end[0]:g}" if end[0] < math.inf else ""
    expression = f"{left}x{right}" if left or right else "every x"
    return f"'{expression}' has no outcome: give it one, or add {{'when': '{OTHERWISE}', 'verdict': '{UNDETERMINED}'}}"


def matching_outcome(conditions: Sequence[str], x: float) -> int | None:
    """Return the index of the condition that holds for x, else that of 'otherwise', None without one."""
    otherwise = None
    for number, text in enumerate(conditions):
        interval = parse_interval(text)
        if interval is None:
            otherwise = number
        elif interval.holds(x):
            return number
    return otherwise

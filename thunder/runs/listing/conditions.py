"""Parse conditions on runs: mode=trajectory, lr<2e-4, name~sample."""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import dataclass

from thunder.errors import UsageError

_NAME = "[A-Za-z_][A-Za-z0-9_.-]*"
_FORM = re.compile(rf"\s*({_NAME})\s*(!=|<=|>=|=|<|>|~)\s*(.*?)\s*")
_WORDS = {"true": 1, "yes": 1, "false": 0, "no": 0}


@dataclass(frozen=True)
class RunCondition:
    """A condition on a column or an option.

    name: the column or option. sign: one of = != < <= > >= ~. value: a number where the text is one, else the text.
    A run without that column or option does not meet the condition.
    """

    name: str
    sign: str
    text: str
    value: float | str


def parse_condition(text: str) -> RunCondition:
    """Parse one condition.

    Raises UsageError where its form is not known, or where it orders by a value that is not a number.
    """
    match = _FORM.fullmatch(text)
    if not match:
        raise UsageError(f"'{text}' is not a condition", fix="write NAME=VALUE, or use != < <= > >= ~ (contains) for =")
    name, sign, operand = match.groups()
    value: float | str = _WORDS.get(operand.lower(), operand)
    with contextlib.suppress(ValueError):
        value = float(operand) if math.isfinite(float(operand)) else operand
    if sign in ("<", "<=", ">", ">=") and isinstance(value, str):
        raise UsageError(f"'{text}': '{operand}' is not a number", fix=f"{name}{sign}0.1")
    return RunCondition(condition_field(name), sign, operand, value)


def condition_field(text: str) -> str:
    """Return the stored name of a column or an option.

    Raises UsageError where the name cannot be one.
    """
    if not re.fullmatch(_NAME, text):
        raise UsageError(f"'{text}' is not a name of a column or an option", fix="give a name such as cer, mode or lr")
    return text.replace("-", "_")

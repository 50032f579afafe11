"""Conditions on runs: their form is checked, and names and values are read."""

from __future__ import annotations

import pytest

from thunder.errors import UsageError
from thunder.runs.listing import conditions


@pytest.mark.parametrize("text", ["", "mode", "=3", "a b=3", "lr<fast", "cer<nan"])
def test_what_is_no_condition(text):
    with pytest.raises(UsageError):
        conditions.parse_condition(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mode=trajectory", ("mode", "=", "trajectory")),
        (" learning-rate >= 3e-4 ", ("learning_rate", ">=", 3e-4)),
        ("use_ttt!=yes", ("use_ttt", "!=", 1)),
        ("name~a=b", ("name", "~", "a=b")),
        ("cer=inf", ("cer", "=", "inf")),
    ],
)
def test_the_parts_of_a_condition(text, expected):
    parsed = conditions.parse_condition(text)
    assert (parsed.name, parsed.sign, parsed.value) == expected

"""Numbers and names as the page shows them."""

from __future__ import annotations

import pytest

from thunder.report.number_format import describe_change, format_fact, format_interval, format_rate


def test_rates_have_four_digits_and_none_is_a_dash():
    assert [format_rate(value) for value in (None, 0.0, 0.12345, 1.0)] == ["–", "0.0000", "0.1235", "1.0000"]


@pytest.mark.parametrize("change, bounds, text, meaning", [
    (-0.02, (-0.03, -0.01), "-0.0200 [-0.0300, -0.0100]", "better"),
    (0.02, (0.01, 0.03), "+0.0200 [+0.0100, +0.0300]", "worse"),
    (0.0, (-0.01, 0.01), "+0.0000 [-0.0100, +0.0100]", "no difference shown"),
    (-0.02, (-0.04, 0.0), "-0.0200 [-0.0400, +0.0000]", "no difference shown"),
    (None, (0.0, 0.1), "–", "nothing to compare"),
    (0.1, None, "–", "nothing to compare"),
])  # fmt: skip
def test_changes_and_their_intervals(change, bounds, text, meaning):
    assert (format_interval(change, bounds), describe_change(change, bounds)) == (text, meaning)


@pytest.mark.parametrize("value, text", [
    ("a" * 64, "a" * 12), ("0" * 40, "0" * 12), ("rules@" + "e" * 64, "rules@" + "e" * 12),
    ("a" * 63, "a" * 63), ("g" * 64, "g" * 64), ("x@y", "x@y"), (0.5, "0.5"), (7, "7"),
])  # fmt: skip
def test_digests_are_cut_to_twelve_digits(value, text):
    assert format_fact("base_digest", value) == ("base digest", text)

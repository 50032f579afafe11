"""Outcomes of a hypothesis: their intervals are disjoint and cover every number."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.runs.hypotheses import outcomes

CASES = [
    (["x < 1", "x >= 1"], []),
    (["x <= 1", "x > 1"], []),
    (["x < 1", "1 <= x < 2", "x >= 2"], []),
    (["x >= 2", "x < 1", "otherwise"], []),
    (["x == 0", "x < 0", "x > 0"], []),
    (["x < 1", "x > 1"], ["'1 <= x <= 1' has no outcome"]),
    (["x <= 1", "x >= 1"], ["overlap"]),
    (["x < 2", "1 <= x"], ["overlap"]),
    (["x < 9.5", "9.5 <= x <= 9.7"], ["'9.7 < x' has no outcome"]),
    (["1 < x < 2"], ["'x <= 1' has no outcome", "'2 <= x' has no outcome"]),
    (["otherwise", "otherwise"], ["occurs 2 times"]),
    (["x"], ["expected"]), (["y < 1"], ["expected"]), (["1 < x > 2"], ["expected"]), (["2 < x < 1"], ["is empty"]),
]  # fmt: skip


@pytest.mark.parametrize("conditions, wrong", CASES, ids=lambda value: " | ".join(value))
def test_outcomes_are_disjoint_and_leave_nothing_out(conditions, wrong):
    found = outcomes.interval_faults(conditions)
    assert len(found) == len(wrong)
    assert all(said in fault for said, fault in zip(wrong, found, strict=True))


@settings(max_examples=60)
@given(
    st.lists(st.integers(-3, 3), unique=True, min_size=1, max_size=4), st.lists(st.booleans(), min_size=4, max_size=4)
)
def test_conditions_that_were_cut_from_a_line_cover_it_once(places, closed):
    """Brute force: every cut of the line is faultless, every number has one outcome, and without a piece it is not."""
    places.sort()
    signs = [("<=", "<") if shut else ("<", "<=") for shut in closed]
    pieces = [f"x {signs[0][0]} {places[0]}"]
    for number, (low, high) in enumerate(zip(places, places[1:], strict=False)):
        pieces.append(f"{low} {signs[number][1]} x {signs[number + 1][0]} {high}")
    last = len(places) - 1
    pieces.append(f"x {'>' if signs[last][1] == '<' else '>='} {places[last]}")
    assert outcomes.interval_faults(pieces) == []
    for half in range(-10, 11):
        holding = [number for number, text in enumerate(pieces) if outcomes.parse_interval(text).holds(half / 2)]
        assert len(holding) == 1 and outcomes.matching_outcome(pieces, half / 2) == holding[0]
    assert len(outcomes.interval_faults(pieces[1:])) == 1
    assert outcomes.interval_faults([*pieces, f"x == {places[0]}"]) != []

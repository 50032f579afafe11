import json

import jiwer
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from thunder.text.distance import ErrorCount, count, edits
from thunder.text.normalise import normalise

# letters, tone marks, the nasal dot and a space: short, so that the table below stays small
TEXT = st.text(st.sampled_from("\u07ca\u07d3\u07df\u07e0\u07eb\u07ec\u07f2 a"), max_size=12)


def by_table(left: str, right: str) -> int:
    """The definition: the last cell of the dynamic programming table."""
    row = list(range(len(right) + 1))
    for i, one in enumerate(left, start=1):
        previous, row = row, [i]
        for j, other in enumerate(right, start=1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (one != other)))
    return row[-1]


@given(TEXT, TEXT)
def test_it_equals_the_table(hypothesis, reference):
    assert edits(hypothesis, reference) == by_table(normalise(hypothesis), normalise(reference))


@given(TEXT, TEXT)
def test_the_rate_equals_that_of_jiwer(hypothesis, reference):
    # jiwer strips its texts and refuses an empty reference
    hypothesis, reference = normalise(hypothesis).strip(), normalise(reference).strip()
    assume(reference)
    assert count(hypothesis, reference).rate == pytest.approx(jiwer.cer(reference, hypothesis))


def test_the_order_of_marks_is_no_edit():
    assert edits("\u07d3\u07ca\u07ec\u07f2", "\u07d3\u07ca\u07f2\u07ec") == 0


def test_a_lost_tone_is_one_edit_of_three_code_points():
    assert count("ߓߊ", "ߓߊ߬") == ErrorCount(edits=1, reference_chars=3)


def test_counts_add_up_before_they_are_divided():
    total = sum([ErrorCount(1, 2), ErrorCount(0, 8)], ErrorCount())
    assert total == ErrorCount(1, 10)
    assert total.rate == 0.1


def test_without_a_reference_the_rate_is_zero_or_unknown_and_stays_json():
    assert count("", "").rate == 0.0
    assert count("a", "").rate is None
    json.dumps(count("a", "").rate, allow_nan=False)


def test_the_rate_can_pass_one():
    assert count("abc", "x").rate == 3.0

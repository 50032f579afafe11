import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunder.corpora.rows.chat_rows import ChatRow
from thunder.corpora.splits.split_by_reference import hold_out, reference_key
from thunder.errors import UsageError
from thunder.text.chat import correction_messages

FRACTION = st.floats(0, 1)


def row(asr_text: str, reference: str) -> ChatRow:
    return ChatRow(tuple(correction_messages(asr_text, reference)), "made:1", asr_text)


ROWS = st.lists(st.builds(row, st.text("ab", min_size=1), st.text("\u07ca\u07d3\u07eb\u07f2", min_size=1, max_size=4)))


def references(rows: list[ChatRow]) -> set[str]:
    return {row.reference for row in rows}


@given(ROWS, FRACTION)
def test_every_row_is_on_one_side_and_no_reference_on_both(rows, fraction):
    kept, held_out = hold_out(rows, fraction, "salt")
    assert sorted(map(repr, kept + held_out)) == sorted(map(repr, rows))
    assert not references(kept) & references(held_out)


@given(ROWS, FRACTION, st.randoms())
def test_the_order_of_rows_does_not_matter(rows, fraction, source):
    shuffled = list(rows)
    source.shuffle(shuffled)
    assert references(hold_out(rows, fraction, "salt")[1]) == references(hold_out(shuffled, fraction, "salt")[1])


@given(ROWS, ROWS, FRACTION)
def test_a_row_keeps_its_side_when_others_come(rows, others, fraction):
    held_out = references(hold_out(rows + others, fraction, "salt")[1])
    assert references(hold_out(rows, fraction, "salt")[1]) == held_out & references(rows)


@given(ROWS, FRACTION, FRACTION)
def test_a_larger_fraction_only_adds(rows, one, other):
    less, more = sorted((one, other))
    assert references(hold_out(rows, less, "salt")[1]) <= references(hold_out(rows, more, "salt")[1])


@given(ROWS)
def test_none_and_all_can_be_held_out(rows):
    assert hold_out(rows, 0, "salt") == (rows, [])
    assert hold_out(rows, 1, "salt") == ([], rows)


def test_about_the_fraction_is_held_out_and_another_salt_holds_out_others():
    rows = [row("a", f"reference {number}") for number in range(2000)]
    first, second = (hold_out(rows, 0.1, salt)[1] for salt in ("one", "two"))
    assert 150 < len(first) < 250
    assert references(first) != references(second)


def test_marks_in_another_order_and_space_around_make_no_other_reference():
    # messages straight from a file are not in normal form
    spelt = [
        ChatRow(({"role": "user", "content": "a"}, {"role": "assistant", "content": text}), "made:1", "x")
        for text in ("\u07d3\u07ca\u07ec\u07f2", "\u07d3\u07ca\u07f2\u07ec", " \u07d3\u07ca\u07f2\u07ec\n")
    ]
    for fraction in (0.2, 0.4, 0.6, 0.8):
        assert {len(side) for side in hold_out(spelt, fraction, "salt")} == {0, 3}
    keys = {reference_key(row) for row in spelt} | {reference_key(row.reference) for row in spelt}
    assert keys == {"\u07d3\u07ca\u07f2\u07ec"}
    assert reference_key("a  b") != reference_key("a b")


@pytest.mark.parametrize("fraction", [-0.1, 1.5, float("nan")])
def test_a_fraction_that_is_none(fraction):
    with pytest.raises(UsageError, match="cannot be held out"):
        hold_out([], fraction, "salt")


@given(ROWS, FRACTION, st.integers(0, 5))
def test_at_least_so_many_references_are_held_out(rows, fraction, fewest):
    held_out = references(hold_out(rows, fraction, "salt", fewest=fewest)[1])
    assert len(held_out) >= min(fewest, len(references(rows)))
    assert references(hold_out(rows, fraction, "salt")[1]) <= held_out

"""Rows come into the part that they name; else references or whole groups are held out, of few rows some of each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunder.corpora.rows.chat_rows import ChatRow
from thunder.corpora.splits.divide_rows import (
    HELD_OUT,
    PART_NAMES,
    contradicting_splits,
    divide_rows,
    fewest_held_out,
    group_of,
    shared_groups,
)
from thunder.corpora.splits.split_by_reference import hold_out
from thunder.errors import CorpusError
from thunder.text.chat import correction_messages


def row(number, **fields):
    return ChatRow(tuple(correction_messages("a", f"ref {number}")), f"made:{number}", str(number), fields)


def sizes(divided):
    return len(divided.train), *(len(divided.held_out.get(part, ())) for part in HELD_OUT)


@pytest.mark.parametrize(("name", "part"), PART_NAMES.items())
def test_a_row_goes_where_its_split_says(name, part):
    rows = [row(0, split="train"), row(1, split=name.upper()), row(2, split="test"), row(3, split="dev")]
    divided = divide_rows(rows, HELD_OUT, 0.0)
    assert rows[1] in (divided.train if part == "train" else divided.held_out[part])
    assert any("'split'" in note for note in divided.notes) and divided.rules == ["own split"]


def test_by_reference_does_not_look_at_the_split():
    rows = [row(number, split="test" if number % 2 else "train") for number in range(200)]
    divided = divide_rows(rows, HELD_OUT, 0.1, own_split=False)
    kept, valid = hold_out(rows, 0.1, "valid")
    kept, test = hold_out(kept, 0.1, "test")
    assert (divided.train, divided.held_out) == (kept, {"valid": valid, "test": test}) and divided.rules == []


def test_rows_of_a_part_with_its_own_file_are_left_out_of_training():
    rows = [row(number, split="test" if number < 10 else None) for number in range(200)]
    divided = divide_rows(rows, ["valid"], 0.1)
    assert not set(map(id, rows[:10])) & set(map(id, divided.train)) and "test" not in divided.held_out
    assert any("10 rows say that they are of test" in note for note in divided.notes)


def test_a_part_that_no_row_names_is_held_out():
    rows = [row(number, split="test" if number < 10 else "train") for number in range(200)]
    divided = divide_rows(rows, HELD_OUT, 0.1)
    assert sizes(divided)[2] == 10 and 5 < sizes(divided)[1] < 40


def test_rows_that_are_all_for_the_test_are_refused():
    with pytest.raises(CorpusError, match="0 validation, 2 test") as caught:
        divide_rows([row(0, split="test"), row(1, split="test")], HELD_OUT, 0.1)
    assert "--split by-reference" in (caught.value.fix or "")


def test_unknown_splits_are_named_and_trained_on():
    divided = divide_rows([row(0, split="blue"), row(1, split=3)], HELD_OUT, 0.0)
    assert sizes(divided) == (2, 0, 0) and "'blue' (1), '3' (1)" in divided.notes[0]


@pytest.mark.parametrize(
    ("rows", "expected"), [(1, (1, 0, 0)), (4, (4, 0, 0)), (5, (3, 1, 1)), (10, (6, 2, 2)), (30, (24, 3, 3))]
)
def test_few_rows_are_held_out_all_the_same(rows, expected):
    divided = divide_rows([row(number) for number in range(rows)], HELD_OUT, 0.02)
    assert sizes(divided) == expected
    assert divided.rules == (["fewest"] if rows >= 5 else [])


def test_nothing_is_held_out_where_nothing_is_asked_for():
    assert sizes(divide_rows([row(number) for number in range(30)], HELD_OUT, 0.0)) == (30, 0, 0)


def test_many_rows_are_held_out_as_before():
    rows = [row(number) for number in range(2000)]
    kept, valid = hold_out(rows, 0.02, "valid")
    assert divide_rows(rows, HELD_OUT, 0.02).held_out["valid"] == valid


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.sampled_from([0.02, 0.2, 0.45]))
def test_no_group_is_in_two_parts(speakers, share):
    rows = [row(number, speaker_id=speaker) for number, speaker in enumerate(speakers)]
    divided = divide_rows(rows, HELD_OUT, share, group_by="speaker_id")
    parts = [{group_of(one, "speaker_id") for one in part} for part in (divided.train, *divided.held_out.values())]
    assert sum(map(len, parts)) == len(set(speakers)) and sum(sizes(divided)) == len(rows)
    if len(set(speakers)) >= 3:
        assert all(len(divided.held_out[part]) for part in HELD_OUT)


def test_three_speakers_are_a_part_each():
    rows = [row(number, speaker_id=f"s{number % 3}") for number in range(30)]
    divided = divide_rows(rows, HELD_OUT, 0.02, group_by="speaker_id")
    assert sizes(divided) == (10, 10, 10)
    assert any("by hash of speaker_id (1 of its values)" in note for note in divided.notes)


def test_a_field_that_no_row_has():
    with pytest.raises(CorpusError, match="--group-by speaker: no row has this field; found speaker_id"):
        divide_rows([row(0, speaker_id=1)], HELD_OUT, 0.02, group_by="speaker")


def test_rows_without_a_group_are_held_out_by_reference():
    rows = [row(number, **({"speaker_id": 1} if number < 3 else {})) for number in range(300)]
    divided = divide_rows(rows, HELD_OUT, 0.1, group_by="speaker_id")
    assert min(sizes(divided)[1:]) > 10


def test_shared_groups_are_named():
    def speak(number, speaker):
        return row(number, speaker_id=speaker, audio_id=f"a{number}")

    train, held = [speak(0, "x"), speak(1, "y")], [speak(2, "x"), speak(3, "z")]
    assert shared_groups(train, held, None) == [
        "speaker_id: 1 of 3 values are in training and also held out; --group-by speaker_id keeps them apart"
    ]
    assert shared_groups(train, held[1:], None) == []


def test_rows_of_a_file_that_say_another_part():
    rows = [row(0, split="train"), row(1, split="test"), row(2), row(3, split="unknown")]
    assert contradicting_splits(rows, "test") == "warning: 1 rows of the test file say 'split' 'train'"
    assert contradicting_splits(rows[1:], "test") is None


@pytest.mark.parametrize(
    ("keys", "grouped", "fewest"), [(2, True, 0), (3, True, 1), (4, False, 0), (14, False, 2), (900, False, 3)]
)
def test_how_many_are_held_out_at_least(keys, grouped, fewest):
    assert fewest_held_out(keys, grouped) == fewest

"""Rows of every format become the messages that are expected, by hand."""

import pytest

from thunder.corpora.rows.jsonl_lines import LineFault
from thunder.corpora.rows.row_shapes import first_hypothesis, shape_row
from thunder.text.chat import CORRECTION_INSTRUCTION, correction_messages


def said(shaped):
    return [(message["role"], message["content"]) for message in shaped.messages]


def test_an_instruction_is_the_prompt_as_it_is():
    shaped = shape_row({"instruction": "Repair:", "input": "ߓߊ", "output": "ߓߊ߬"}, "written")
    assert said(shaped) == [("user", "Repair:\nߓߊ"), ("assistant", "ߓߊ߬")]
    assert (shaped.shape, shaped.asr_text) == ("instruction + input -> user, output -> assistant", "ߓߊ")
    assert shaped.used == {"instruction", "input", "output"}


def test_our_own_instruction_makes_the_row_of_a_correction():
    shaped = shape_row({"instruction": CORRECTION_INSTRUCTION, "input": "ߓߊ", "output": "ߓߊ߬"}, "written")
    assert shaped.messages == correction_messages("ߓߊ", "ߓߊ߬")


@pytest.mark.parametrize("row", [{}, {"input": ""}, {"input": None}])
def test_an_instruction_without_input(row):
    shaped = shape_row({"instruction": "Say ߓߊ", "output": "ߓߊ"} | row, "written")
    assert said(shaped)[0] == ("user", "Say ߓߊ") and shaped.asr_text is None


def test_an_instruction_beside_a_pair_is_its_prompt():
    shaped = shape_row({"instruction": "Repair:", "hyp": "ߓߊ", "ref": "ߓߊ߬"}, "written")
    assert said(shaped) == [("user", "Repair:\nߓߊ"), ("assistant", "ߓߊ߬")]
    assert shaped.shape == "instruction + hyp -> user, ref -> assistant" and shaped.asr_text == "ߓߊ"


@pytest.mark.parametrize("row", [
    {"prompt": "a", "completion": "b"}, {"instruction": "a", "output": "b"},
    {"conversations": [{"from": "user", "value": "a"}, {"from": "assistant", "value": "b"}]},
    {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]},
    {"prompt": [{"role": "user", "content": "a"}], "completion": "b"},
])  # fmt: skip
def test_a_system_text_is_put_first(row):
    shaped = shape_row(row | {"system": "S"}, "written")
    assert said(shaped) == [("system", "S"), ("user", "a"), ("assistant", "b")] and "system" in shaped.used


def test_the_name_of_a_recognizer_is_no_system_text():
    assert "system" not in shape_row({"hyp": "a", "ref": "b", "system": "parakeet"}, "written").used


def test_a_system_turn_stays_alone():
    turns = [{"from": "system", "value": "T"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    shaped = shape_row({"system": "S", "conversations": turns}, "written")
    assert said(shaped)[0] == ("system", "T") and "system" not in shaped.used


def test_history_is_earlier_turns():
    row = {"instruction": "c", "output": "d", "history": [["a", "b"]]}
    assert [text for _, text in said(shape_row(row, "written"))] == ["a", "b", "c", "d"]
    with pytest.raises(LineFault, match="'history' is not a list of"):
        shape_row(row | {"history": ["a"]}, "written")


@pytest.mark.parametrize(
    ("value", "first"), [("a", ("a", 0)), (["a", "b", "c"], ("a", 2)), ([{"text": "a"}], ("a", 0))]
)
def test_the_first_of_an_n_best_list(value, first):
    assert first_hypothesis("hyp", value) == first


@pytest.mark.parametrize("value", [[], [3], [{"score": 1}]])
def test_a_list_without_texts(value):
    with pytest.raises(LineFault, match="'hyp' is a list, but not of texts"):
        shape_row({"hyp": value, "ref": "b"}, "written")


def test_other_hypotheses_are_named():
    assert shape_row({"input": ["a", "b"], "output": "c"}, "written").unused == ("other hypotheses",)
    assert shape_row({"input": ["a"], "output": "c"}, "written").unused == ()


def test_a_preferred_pair_wins():
    row = {"messages": [], "before": "x", "after": "y", "hyp": "a", "ref": "b"}
    assert shape_row(row, "written", ["hyp"]).shape == "hyp -> user, ref -> assistant"
    assert shape_row(row, "written").shape == "messages"


@pytest.mark.parametrize(("row", "reason"), [
    ({"prompt": "a", "chosen": "b", "rejected": "c"}, "a preference row"),
    ({"text": "a"}, "plain text"),
    ({"instruction": "", "output": "b"}, "'instruction' is empty"),
    ({"conversations": "a"}, "'conversations' is a text, not a list"),
    ({"prompt": [], "completion": 3}, "'completion' is a number"),
    ({"speaker": "a"}, "no 'messages'; found 'speaker'"),
])  # fmt: skip
def test_rows_that_cannot_be_learned_from(row, reason):
    with pytest.raises(LineFault, match=reason):
        shape_row(row, "written")


def test_a_recognized_text_alone_where_no_reference_is_needed():
    shaped = shape_row({"pred_text": ["ߓߊ", "ߓ"]}, "missing")
    assert shaped.messages == correction_messages("ߓߊ", "") and shaped.unused == ("other hypotheses",)

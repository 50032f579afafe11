"""Messages of every convention become one: roles, parts, weights; what is not learned from is counted."""

from collections import Counter

import pytest

from thunder.corpora.rows.chat_messages import ROLE_NAMES, read_messages
from thunder.corpora.rows.jsonl_lines import LineFault


def read(*turns, **more):
    notes = Counter()
    messages = [turn if isinstance(turn, dict) else {"role": turn[0], "content": turn[1]} for turn in turns]
    return read_messages(messages, more.get("references", "written"), notes), dict(notes)


def weighted(*weights):
    roles = ("user", "assistant")
    return [
        {"role": roles[at % 2], "content": str(at)} | ({} if weight is None else {"weight": weight})
        for at, weight in enumerate(weights)
    ]


@pytest.mark.parametrize(("name", "role"), ROLE_NAMES.items())
def test_roles_of_other_conventions(name, role):
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    at = {"user": 0, "assistant": 1}.get(role)
    turns[0 if at is None else at : 0 if at is None else at + 1] = [(name, "x")]
    messages, notes = read(*turns)
    assert {"role": role, "content": "x"} in messages
    assert notes[f"role '{name}' read as '{role}'"] == 1


def test_parts_are_joined():
    parts = [{"type": "text", "text": "a"}, "b", {"text": "c"}]
    assert read(("user", parts), ("assistant", "d"))[0][0]["content"] == "abc"


@pytest.mark.parametrize("part", [{"type": "image_url"}, {"type": "text"}, 3, {"type": "audio", "text": "a"}])
def test_parts_that_are_no_text(part):
    with pytest.raises(LineFault, match="message 1: part 2 of 'content' is"):
        read(("user", ["a", part]), ("assistant", "b"))


@pytest.mark.parametrize(("weights", "kept"), [
    ((None, 0, None, 1), 4), ((None, 1, None, 0), 2), ((None, None, None, 0), 2), ((None, 1, None, None), 4),
    ((None, None), 2), ((None, 1), 2),
])  # fmt: skip
def test_the_last_turn_of_weight_1_is_the_answer(weights, kept):
    messages, notes = read(*weighted(*weights))
    assert len(messages) == kept and not any("weight" in message for message in messages)
    assert ("turns after the last of weight 1 left out" in notes) == (kept < len(weights))


@pytest.mark.parametrize(
    ("weights", "reason"), [((None, 0), "weight 0"), ((None, 0.5), "'weight' is 0.5; known are 0")]
)
def test_weights_that_leave_nothing_to_learn(weights, reason):
    with pytest.raises(LineFault, match=reason):
        read(*weighted(*weights))


def test_what_an_answer_has_beside_its_text_is_counted():
    _, notes = read(("user", "a"), {"role": "assistant", "content": "b", "reasoning_content": "c", "name": None})
    assert notes == {"'reasoning_content' of the answer, not trained on": 1}


def test_tool_turns_are_part_of_the_prompt():
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    messages, notes = read(
        ("user", "a"), call, {"role": "tool", "content": "", "tool_call_id": "1"}, ("assistant", "b")
    )
    assert messages[1]["content"] == "" and messages[1]["tool_calls"] == [{"id": "1"}]
    assert set(notes) == {
        "earlier assistant turns, part of the prompt",
        "'tool_calls' in the prompt, as far as the chat template uses it",
        "'tool_call_id' in the prompt, as far as the chat template uses it",
    }


def test_an_answer_of_tool_calls_alone_has_no_text():
    with pytest.raises(LineFault, match="message 2: the assistant content is empty"):
        read(("user", "a"), {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]})


def test_an_empty_answer_only_where_it_is_asked_for():
    assert len(read(("user", "a"), ("assistant", ""), references="empty")[0]) == 2
    with pytest.raises(LineFault, match="content is empty"):
        read(("user", "a"), ("assistant", ""))

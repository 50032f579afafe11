"""Changes of an answer: all of them make the answer, none of them the text, each one only itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunder.evaluation.decoding.word_changes import WordChange, apply_changes, find_changes

WORDS = st.lists(st.sampled_from(["ߊ߬", "ߓߊ", "ߞߊ߲", "߸", "ߘߋ߲"]), max_size=8).map(" ".join)


@given(WORDS, WORDS)
def test_all_changes_make_the_answer_and_none_the_text(text, answer):
    changes = find_changes(text, answer)
    assert apply_changes(text, changes, range(len(changes))).split() == answer.split()
    assert apply_changes(text, changes, ()) == text


@given(WORDS, WORDS)
def test_changes_lie_apart_and_are_changes(text, answer):
    changes, words = find_changes(text, answer), text.split()
    for change in changes:
        assert tuple(words[change.start : change.end]) != change.words
    for before, after in zip(changes, changes[1:], strict=False):
        assert before.end < after.start, "two that touch are one"


@given(WORDS, WORDS, st.data())
def test_one_change_leaves_the_others_words(text, answer, data):
    changes = find_changes(text, answer)
    if not changes:
        assert text.split() == answer.split()
        return
    number = data.draw(st.integers(0, len(changes) - 1))
    start, end, new = changes[number]
    words = text.split()
    assert apply_changes(text, changes, [number]).split() == [*words[:start], *new, *words[end:]]


@pytest.mark.parametrize(
    ("text", "change", "result"),
    [
        ("a  b\tc", WordChange(1, 2, ("x", "y")), "a  x y\tc"),
        ("a  b\tc", WordChange(1, 2, ()), "a\tc"),
        ("a  b\tc", WordChange(0, 1, ()), "b\tc"),
        ("a  b\tc", WordChange(1, 1, ("x",)), "a  x b\tc"),
        ("a  b\tc ", WordChange(3, 3, ("x",)), "a  b\tc x "),
        (" a ", WordChange(0, 1, ()), "  "),
        ("", WordChange(0, 0, ("x",)), "x"),
    ],
)
def test_the_space_around_a_change_stays(text, change, result):
    assert apply_changes(text, [change], [0]) == result

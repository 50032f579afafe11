"""Marks say the differences and give back both texts; confusions are counted before and after."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.report import text_diff
from thunder.text.distance import grapheme_clusters
from thunder.text.normalize import escape_hidden, normalize_text

LETTERS = st.text(st.sampled_from("ߊߋߌߞߟߡ߲߬߫ ab\u202e"), max_size=12)


def heard(pieces):
    return "".join(each if isinstance(each, str) else "" if each[0] == "-" else each[1] for each in pieces)


def wanted(pieces):
    return "".join(
        each if isinstance(each, str) else "" if each[0] == "+" else each[-1] for each in pieces
    )  # fmt: skip


@pytest.mark.parametrize("hypothesis, reference, pieces", [
    ("abc", "abc", ["abc"]), ("axc", "abc", ["a", ["~", "x", "b"], "c"]), ("ac", "abc", ["a", ["-", "b"], "c"]),
    ("abxyc", "abc", ["ab", ["+", "xy"], "c"]), ("", "a<", [["-", "a<"]]), ("", "", []),
    ("ߞߊ ߡ", "ߞߊ߬ ߡ", ["ߞ", ["~", "ߊ", "ߊ߬"], " ߡ"]), ("a\u202eb", "ab", ["a", ["+", "⟦U+202E⟧"], "b"]),
    ("xy", "ab", [["~", "x", "a"], ["~", "y", "b"]]),
])  # fmt: skip
def test_marks(hypothesis, reference, pieces):
    assert text_diff.diff_segments(hypothesis, reference) == pieces


@settings(max_examples=80)
@given(LETTERS, LETTERS)
def test_marks_give_back_both_texts(hypothesis, reference):
    pieces = text_diff.diff_segments(hypothesis, reference)
    assert heard(pieces) == escape_hidden(normalize_text(hypothesis.strip()))
    assert wanted(pieces) == escape_hidden(normalize_text(reference.strip()))
    if hypothesis.strip() == reference.strip():
        assert all(isinstance(each, str) for each in pieces)


@settings(max_examples=50)
@given(LETTERS, LETTERS)
def test_as_many_marks_as_edits(hypothesis, reference):
    one, other = (grapheme_clusters(text.strip()) for text in (hypothesis, reference))
    table = [[i + j if not i * j else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            swap = table[i - 1][j - 1] + (one[i - 1] != other[j - 1])
            table[i][j] = min(swap, table[i - 1][j] + 1, table[i][j - 1] + 1)
    found = text_diff.count_confusions([(reference, hypothesis, None)])
    assert sum(each.before for each in found) == table[-1][-1]


def test_confusions_before_and_after():
    texts = [("abc", "axc", "abc"), ("abc", "axc", "ayc"), ("abc", "ac", "ac")]
    found = {(each.reference, each.hypothesis): (each.before, each.after) for each in text_diff.count_confusions(texts)}
    assert found == {("b", "x"): (2, 0), ("b", "y"): (0, 1), ("b", ""): (1, 1)}
    assert text_diff.count_confusions([("b", "x", None)])[0].after is None


@pytest.mark.parametrize("reference, hypothesis, kind", [
    ("ߊ߬", "ߊ", "tone"), ("ߊ߬", "ߊ߫", "tone"), ("ߊ߲", "ߊ", "letter"), (" ", "", "space"), ("", " ", "space"),
    (" ", "ߊ", "letter"), ("ߊ", "ߋ", "letter"), ("ߊ", "", "letter"),
])  # fmt: skip
def test_tone_marks_are_told_apart(reference, hypothesis, kind):
    assert text_diff.ClusterConfusion(reference, hypothesis, 1, None).kind == kind

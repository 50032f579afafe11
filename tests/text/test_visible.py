"""Hidden characters are shown by number, and everything else stays."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.text.normalize import BIDI_CONTROLS
from thunder.text.visible import visible


@pytest.mark.parametrize("text, shown", [
    ("", ""), ("ߞߊ߬ abc, ١", "ߞߊ߬ abc, ١"), ("a\u202eb", "a⟦U+202E⟧b"), ("\u2066\u2069", "⟦U+2066⟧⟦U+2069⟧"),
    ("\ud800", "⟦U+D800⟧"), ("\x00\x7f", "⟦U+0000⟧⟦U+007F⟧"), ("\u07fb", "⟦U+07FB⟧"), ("\U000e0041", "⟦U+E0041⟧"),
    ("a\tb\nc", "a\tb\nc"), ("\u200b\ufeff\u2028", "⟦U+200B⟧⟦U+FEFF⟧⟦U+2028⟧"),
])  # fmt: skip
def test_what_is_shown(text, shown):
    assert visible(text) == shown


def test_no_control_of_direction_is_left():
    every = "".join(map(chr, range(0x20, 0x2100)))
    left = visible(every)
    assert not [each for each in left if unicodedata.bidirectional(each) in
                {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}]  # fmt: skip
    for first, *_ in BIDI_CONTROLS.split("-"):
        assert first not in left


@settings(max_examples=50)
@given(st.text(st.characters(categories=("L", "M", "N", "P", "S", "Zs"))))
def test_what_can_be_seen_stays(text):
    assert visible(text) == text

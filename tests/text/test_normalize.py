import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunder.text.normalize import Fault, comparable, faults, modern_bambara, normalise, toneless

NKO = st.text(st.characters(min_codepoint=0x07C0, max_codepoint=0x07FF))


def test_the_nasal_dot_goes_before_the_tone():
    tone_first, dot_first = "\u07d3\u07ca\u07ec\u07f2", "\u07d3\u07ca\u07f2\u07ec"
    assert normalise(tone_first) == normalise(dot_first) == dot_first


def test_two_tone_marks_keep_their_order():
    assert normalise("\u07ca\u07ec\u07eb") == "\u07ca\u07ec\u07eb"


@given(NKO)
def test_it_only_orders_marks_and_does_so_once(text):
    once = normalise(text)
    assert sorted(once) == sorted(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("\u07d3\u07ca\u07f2\u07ec", "\u07d3\u07ca\u07f2"),  # bàn: the nasal dot stays
        ("\u07dc\u07ed\u07cc\u07ec", "\u07dc\u07ed\u07cc"),  # gì: after a consonant the mark makes g
        ("\u07de\u07eb\u07ca\u07ef", "\u07de\u07eb\u07ca"),  # q, and a long vowel
        ("\u07cb\u07f3\u07ec", "\u07cb\u07f3"),  # ə
        ("\u07d2\u07ec\u07de\u07cf", "\u07d2\u07de\u07cf"),  # a syllabic n bears tone too
        ("\u07c1\u07ed", "\u07c1\u07ed"),  # "first"
        ("kɛ́ né", "kɛ́ né"),
    ],
)
def test_tones_go_and_letters_stay(text, without):
    assert toneless(text) == without


@given(NKO)
def test_taking_tones_away_leaves_every_letter(text):
    def others(text):
        return [character for character in normalise(text) if not "\u07eb" <= character <= "\u07f1"]

    once = toneless(text)
    assert others(once) == others(text)
    assert toneless(once) == once


def test_what_no_reader_sees_is_not_compared():
    seen = "\u07d3\u07ca\u07f8 \u07d3\u07ca."
    assert comparable(" \ufeff\u202b\u07d3\u07fa\u07ca \u07f8\t \u07d3\u07ca . \u202c") == seen
    assert comparable(seen) == seen


def test_old_bambara_letters_become_those_of_today():
    assert modern_bambara("Nyè bè tògô fô bonya kényè") == "Ɲɛ bɛ tɔgɔ fɔ bonya kenyɛ"


@pytest.mark.parametrize(
    ("text", "kind", "position"),
    [
        ("a\ud800", "half of a surrogate pair", 1),
        ("\ufeffߊ", "byte order mark", 0),
        ("ߊ\u202e", "bidi control", 1),
        ("ߊ\u200f", "bidi control", 1),
        ("ߊ\u07fb", "unassigned N'Ko code point", 1),
        ("ߊ\u0000", "control character", 1),
        ("ߊ\r", "control character", 1),
        ("ߊ\ufffd", "replacement character", 1),
        ("ߊ\ue000", "private or no character", 1),
        ("ߊ\ufffe", "private or no character", 1),
        ("\ufefb", "presentation form", 0),
        ("ߊ \u07eb", "mark without a letter", 2),
        ("ߊ ߓaߊ", "scripts mixed in a word", 2),
        ("ߓ\u0627", "scripts mixed in a word", 0),
        ("ߊ߬\u07f2", "not in normal form C", 1),
        ("ߓߺߊ", "lajanyalan", 1),
    ],
)
def test_each_kind_of_fault_is_found_in_its_place(text, kind, position):
    assert [(fault.kind, fault.position) for fault in faults(text)] == [(kind, position)]


@pytest.mark.parametrize(
    "text",
    ["ߒ ߞߊ߬ ߓߊ߲߬ ߝߐ߫߸ « ﴾ߊ﴿ »؟\n\t", "Bamanankan kɔ̀nɔ, né!", "ߊߟߎ߫ Gish (GPS) ߁߉߂߀", "ߓߴߊ߬ 1̌", ""],
)
def test_clean_text_has_no_fault(text):
    assert faults(text) == []


def test_a_fault_is_printed_with_its_code_points():
    assert str(Fault("bidi control", 3, "\u202e")) == "bidi control at 3: U+202E"

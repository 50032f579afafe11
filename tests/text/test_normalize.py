import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.text.alphabet import LATIN
from thunder.text.alphabet import NKO as NKO_LABELS
from thunder.text.normalize import (
    BIDI_CONTROLS,
    TextFault,
    escape_hidden,
    modernize_bambara,
    normalize_for_scoring,
    normalize_text,
    spoken_form,
    strip_tones,
    text_faults,
)

NKO = st.text(st.characters(min_codepoint=0x07C0, max_codepoint=0x07FF))


def test_the_nasal_dot_goes_before_the_tone():
    tone_first, dot_first = "\u07d3\u07ca\u07ec\u07f2", "\u07d3\u07ca\u07f2\u07ec"
    assert normalize_text(tone_first) == normalize_text(dot_first) == dot_first


def test_two_tone_marks_keep_their_order():
    assert normalize_text("\u07ca\u07ec\u07eb") == "\u07ca\u07ec\u07eb"


@given(NKO)
def test_it_only_orders_marks_and_does_so_once(text):
    once = normalize_text(text)
    assert sorted(once) == sorted(text)
    assert normalize_text(once) == once
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
    assert strip_tones(text) == without


@given(NKO)
def test_taking_tones_away_leaves_every_letter(text):
    def others(text):
        return [character for character in normalize_text(text) if not "\u07eb" <= character <= "\u07f1"]

    once = strip_tones(text)
    assert others(once) == others(text)
    assert strip_tones(once) == once


def test_what_no_reader_sees_is_not_compared():
    seen = "\u07d3\u07ca\u07f8 \u07d3\u07ca."
    assert normalize_for_scoring(" \ufeff\u202b\u07d3\u07fa\u07ca \u07f8\t \u07d3\u07ca . \u202c") == seen
    assert normalize_for_scoring(seen) == seen


def test_old_bambara_letters_become_those_of_today():
    assert modernize_bambara("Nyè bè tògô fô bonya kényè") == "Ɲɛ bɛ tɔgɔ fɔ bonya kenyɛ"


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
    assert [(fault.kind, fault.position) for fault in text_faults(text)] == [(kind, position)]


@pytest.mark.parametrize(
    "text",
    ["ߒ ߞߊ߬ ߓߊ߲߬ ߝߐ߫߸ « ﴾ߊ﴿ »؟\n\t", "Bamanankan kɔ̀nɔ, né!", "ߊߟߎ߫ Gish (GPS) ߁߉߂߀", "ߓߴߊ߬ 1̌", ""],
)
def test_clean_text_has_no_fault(text):
    assert text_faults(text) == []


def test_a_fault_is_printed_with_its_code_points():
    assert str(TextFault("bidi control", 3, "\u202e")) == "bidi control at 3: U+202E"


@pytest.mark.parametrize(
    ("text", "alphabet", "wanted"),
    [
        ("A ni sɔgɔma, «Fanta» !", LATIN, "a ni sɔgɔma fanta"),
        ("bɔr’a la - k'a ta.", LATIN, "bɔr'a la k'a ta"),
        ("Kɔ̀rɔ̀-lamini 'ye' (12)", LATIN, "kɔ\u0300rɔ\u0300-lamini ye 12"),
        ("ߊ߬ ߓߴߊ߬ ߝߐ߫߸ ߛߓߺߍ߫߹", NKO_LABELS, "ߊ߬ ߓߴߊ߬ ߝߐ߫ ߛߓߍ߫"),
        ("ߊ߬ (a) ߁߂؟", NKO_LABELS, "ߊ߬ a ߁߂"),
        ("... !?", LATIN, ""),
    ],
)
def test_what_is_not_heard_goes(text, alphabet, wanted):
    assert spoken_form(text, alphabet) == wanted


@given(st.text(max_size=30))
def test_what_is_spoken_says_the_same_again(text):
    for alphabet in (NKO_LABELS, LATIN):
        once = spoken_form(text, alphabet)
        assert spoken_form(once, alphabet) == once


@pytest.mark.parametrize("text, shown", [
    ("", ""), ("ߞߊ߬ abc, ١", "ߞߊ߬ abc, ١"), ("a\u202eb", "a⟦U+202E⟧b"), ("\u2066\u2069", "⟦U+2066⟧⟦U+2069⟧"),
    ("\ud800", "⟦U+D800⟧"), ("\x00\x7f", "⟦U+0000⟧⟦U+007F⟧"), ("\u07fb", "⟦U+07FB⟧"), ("\U000e0041", "⟦U+E0041⟧"),
    ("a\tb\nc", "a\tb\nc"), ("\u200b\ufeff\u2028", "⟦U+200B⟧⟦U+FEFF⟧⟦U+2028⟧"),
])  # fmt: skip
def test_what_is_shown(text, shown):
    assert escape_hidden(text) == shown


def test_no_control_of_direction_is_left():
    every = "".join(map(chr, range(0x20, 0x2100)))
    left = escape_hidden(every)
    assert not [each for each in left if unicodedata.bidirectional(each) in
                {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}]  # fmt: skip
    for first, *_ in BIDI_CONTROLS.split("-"):
        assert first not in left


@settings(max_examples=50)
@given(st.text(st.characters(categories=("L", "M", "N", "P", "S", "Zs"))))
def test_what_can_be_seen_stays(text):
    assert escape_hidden(text) == text

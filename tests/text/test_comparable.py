"""The form in which texts are compared, and the characters that are counted by name."""

import unicodedata

import pytest

from thunder.text.comparable import RULES, comparable_text, unusual_characters

TEXT = "ߓߊ߬ ߕߏ߫߸ ߁߂"


def test_without_a_normalization_only_outer_space_and_the_order_of_marks_go():
    assert comparable_text(f"\n {TEXT}\u200b x\t") == f"{TEXT}\u200b x"
    assert comparable_text("ߓߊ\u07ec\u07f2") == "ߓߊ\u07f2\u07ec"


@pytest.mark.parametrize(
    "other",
    [
        "ߓߊ߬\u202fߕߏ߫߸ ߁߂",
        "ߓߊ߬\u2028ߕߏ߫߸\t߁߂",
        "ߓߊ߬\nߕߏ߫ \u060c  ߁߂",
        "\u200bߓߊ߬ ߕߏ\u2060߫, 12",
        "ߓߊ\u07fa߬ ߕߏ߫ ߸ \u0661\u0662\u00ad",
        "\ufeffߓߊ߬\u00a0ߕߏ߫߸ ߁߂\u200f",
    ],
)
def test_what_reads_alike_in_nko_is_one_form(other):
    assert comparable_text(other, "nko") == comparable_text(TEXT, "nko") == TEXT
    assert comparable_text(other) != TEXT


def test_latin_text_keeps_its_digits_and_punctuation():
    assert comparable_text("bɛ, 12 !\u200b", "nko") == "bɛ, 12!"


def test_differences_that_are_heard_stay():
    for other in ("ߓߊ߫ ߕߏ߫߸ ߁߂", "ߓߊ߬ߕߏ߫߸ ߁߂", "ߓߊ߬ ߕߏ߫ ߁߂", "ߓߊ߬ ߕߏ߫߸ ߁߃"):
        assert comparable_text(other, "nko") != TEXT


def test_a_form_is_a_fixed_point_and_its_rules_are_named():
    for name, rules in RULES.items():
        for text in (f" {TEXT} \u200b , ! 7\u07fa\u07fa", "\u200b \u07fa ,", "a\u0301 \u07f2"):
            once = comparable_text(text, name)
            assert comparable_text(once, name) == once
        assert "NFC" in rules


def test_unusual_characters_are_counted_by_category():
    found = unusual_characters(["ߓߊ\u200b\u202f ߕߏ\u2028 12\u060c\t", "  bɛ, 12\n\u00a0", "ߓߊ \u07f8 ߁  ߂"])
    assert found == {
        "Cc U+0009 TAB": 1,
        "Cc U+000A LINE FEED": 1,
        "Cf U+200B ZERO WIDTH SPACE": 1,
        "Nd U+0031 DIGIT ONE": 1,
        "Nd U+0032 DIGIT TWO": 1,
        "Po U+060C ARABIC COMMA": 1,
        "Zl U+2028 LINE SEPARATOR": 1,
        "Zs U+00A0 NO-BREAK SPACE": 1,
        "Zs U+202F NARROW NO-BREAK SPACE": 1,
        "space at the beginning or end of a text": 5,
        "space repeated": 1,
    }


def test_every_space_and_format_character_of_unicode_is_counted():
    """By category, so that characters which nobody thought of are named too."""
    for code in range(0x3100):
        character = chr(code)
        if unicodedata.category(character) in ("Zs", "Zl", "Zp", "Cf") and character != " ":
            assert list(unusual_characters([f"ߓ{character}ߓ"]).values()) == [1], hex(code)
            assert comparable_text(f"ߓߊ{character}ߓ", "nko") in ("ߓߊ ߓ", "ߓߊߓ")


def test_plain_text_has_nothing_unusual():
    assert unusual_characters([TEXT, "i ni ce, a' ye 12 ta!"]) == {}

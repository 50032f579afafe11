import csv
import unicodedata

import pytest
from conftest import TEST_DATA
from hypothesis import given
from hypothesis import strategies as st

from thunder.errors import CorpusError
from thunder.text import alphabet
from thunder.text.alphabet import LATIN, NKO

TABLE = TEST_DATA / "lexicon" / "latin_nko_table.tsv"


def table() -> list[dict[str, str]]:
    return list(csv.DictReader(TABLE.open(encoding="utf-8"), delimiter="\t"))


def test_letters_and_foreign_letters_equal_the_reference_table():
    ours = alphabet.VOWELS | alphabet.CONSONANTS | alphabet.FOREIGN
    seen = set()
    for row in table():
        codes = row["codepoints"].split("+")
        if "V" in codes or row["latin"].startswith(("no vowel", "elided", "n (syllabic")):
            continue
        nko = "".join(chr(int(code, 16)) for code in codes)
        wanted = row["latin"].split(" (")[0].split(" after a nasal")[0]
        # the table gives two Latin forms of two of the letters
        if wanted in ("kh", "gh"):
            wanted = {"kh": "x", "gh": "ɣ"}[wanted]
        seen.add(nko)
        if "after a nasal" in row["latin"]:
            assert ours[nko] == {"l": "n", "y": "y"}[wanted]
        else:
            assert ours[nko] == wanted, row
    assert ours.keys() - seen == set("\u07e8\u07e9\u07ea")  # the archaic letters are not in the table


def test_marks_equal_the_reference_table():
    by_name = {row["latin"]: row["codepoints"].split("+") for row in table()}
    marks = {
        "nasal vowel Vn": alphabet.NASAL,
        "short low V̀": alphabet.SHORT_LOW,
        "short high V́, word-final": alphabet.SHORT_HIGH,
        "short rising V̌": alphabet.SHORT_RISING,
        "long high V́V": alphabet.LONG_HIGH,
        "long low V̀V": alphabet.LONG_LOW,
        "long falling V́V̀": alphabet.LONG_FALLING,
        "long rising V̌V": alphabet.LONG_RISING,
    }
    for name, mark in marks.items():
        assert by_name[name] == ["V", f"{ord(mark):04X}"]
    assert by_name["no vowel between consonants"] == [f"{ord(alphabet.NO_VOWEL):04X}"]
    assert by_name["elided high vowel '"] == [f"{ord(alphabet.ELIDED_HIGH):04X}"]
    assert by_name["elided low vowel '"] == [f"{ord(alphabet.ELIDED_LOW):04X}"]


def test_the_classes_are_those_of_unicode():
    names = {character: unicodedata.name(character) for character in alphabet.BLOCK}
    assert len(alphabet.BLOCK) == 62
    assert all(unicodedata.category(character) == "Mn" for character in alphabet.MARKS)
    assert {c for c in names if unicodedata.category(c) == "Mn"} == set(alphabet.MARKS)
    assert {c for c in names if unicodedata.category(c) == "Nd"} == alphabet.DIGITS.keys()
    assert all(int(digit) == unicodedata.digit(nko) for nko, digit in alphabet.DIGITS.items())
    letters = {c for c, name in names.items() if name.startswith("NKO LETTER")}
    ours = alphabet.VOWELS.keys() | alphabet.CONSONANTS.keys() | {alphabet.NO_VOWEL, alphabet.SYLLABIC_N}
    assert letters == ours
    assert all("TONE" in names[mark] for mark in alphabet.TONES)
    assert all(("LONG" in names[mark]) == (mark in alphabet.LONG_TONES) for mark in alphabet.TONES)
    assert [unicodedata.combining(mark) for mark in (alphabet.NASAL, alphabet.DOTS)] == [220, 230]
    assert not any(unicodedata.name(character, "") for character in alphabet.UNASSIGNED)


@given(st.text(st.sampled_from(alphabet.BLOCK + (" ",)), max_size=20))
def test_nko_labels_give_the_text_back(text):
    ids = NKO.encode(text)
    assert NKO.decode(ids) == " ".join(unicodedata.normalize("NFC", text).split())
    assert all(0 < label < NKO.size for label in ids)


@given(st.text(st.sampled_from("aɛɔɲŋ z9'-áɛ̀ǎüôéÁƐ"), max_size=20))
def test_latin_labels_give_the_text_back_in_small_letters(text):
    text = unicodedata.normalize("NFC", text)
    assert LATIN.decode(LATIN.encode(text)) == unicodedata.normalize("NFC", " ".join(text.lower().split()))


def test_no_label_is_the_blank_and_none_stands_twice():
    for one in (NKO, LATIN):
        assert one.size == len(set(one.labels)) + 1
        assert one.decode([0, 1, 0]) == one.labels[0]


def test_a_letter_shape_is_no_label():
    assert LATIN.encode("K\u2019A") == LATIN.encode("k'a")


def test_every_stranger_is_named():
    assert NKO.unknown_characters("ߓa\u07fb") == ["a", "\u07fb"]
    with pytest.raises(CorpusError, match=r"'a' \(U\+0061\), '\\u07fb' \(U\+07FB\)"):
        NKO.encode("ߓa\u07fb")


@pytest.mark.parametrize("wrong", [-1, 64])
def test_an_id_that_is_no_label_is_refused(wrong):
    with pytest.raises(IndexError):
        NKO.decode([1, wrong])

import csv
import re
import unicodedata
from functools import cache
from pathlib import Path

import pytest
from conftest import SHARED_DATA, TEST_DATA, needs_shared_data
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from thunder.text import bambara, normalize, syllables, transliterate
from thunder.text.transliterate import IRREVERSIBLE, to_latin, to_nko

ACCENT = {"high": "\u0301", "low": "\u0300", "rising": "\u030c", "falling": "\u0302"}
ONSETS = "b p t j c d r s f k l m ɲ n h w y gb rr g z sh v zh x q ɣ kp".split()


def vectors() -> list[dict[str, str]]:
    path = TEST_DATA / "lexicon" / "nko_latin_vectors.tsv"
    return list(csv.DictReader(path.open(encoding="utf-8"), delimiter="\t"))


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def test_all_vectors_hold_in_plain_letters():
    rows = vectors()
    assert len(rows) == 45
    assert [to_latin(row["nqo"], "none").text for row in rows] == [row["latin_plain"] for row in rows]


def test_all_vectors_hold_with_lexical_tone_but_for_two_compounds():
    differing = {}
    for row in vectors():
        if (ours := to_latin(row["nqo"], "lexical").text) != nfc(row["latin_tonal"]):
            differing[row["latin_tonal"]] = ours
    # an accent stands where the tone changes. The vectors repeat the low one at the seam of a compound, which N'Ko does
    # not write, and leave the high mark of the last syllable of one unsaid
    assert {nfc(theirs): ours for theirs, ours in differing.items()} == {
        nfc("jùsudɔ̀cɛ́"): nfc("jùsudɔcɛ́"),
        nfc("fàdafìnna"): nfc("fàdafinná"),
    }


def test_all_vectors_come_back_from_full_tone():
    assert [
        row["nqo"] for row in vectors() if to_nko(to_latin(row["nqo"], "full").text, "full").text != row["nqo"]
    ] == []


def test_vectors_come_back_from_lexical_tone_where_it_says_all():
    """A final high mark is not to be known from lexical tone: six words have one, and each but one is listed unsure."""
    failing = {}
    for row in vectors():
        result = to_nko(row["latin_tonal"], "lexical")
        if result.text != row["nqo"]:
            failing[row["latin_plain"]] = {one.reason for one in result.unsure}
    assert failing.keys() == {"ban", "kunu", "gbɛ", "furru", "jusudɔcɛ", "fadafinna"}
    assert all(bambara.FINAL_HIGH in reasons for word, reasons in failing.items() if word != "fadafinna")


def test_vectors_without_tone_differ_from_the_word_in_tone_and_elision_only():
    def bones(word):
        return [(beat.onset, beat.vowel, beat.nasal) for beat in syllables.split_syllables(word)]

    for row in vectors():
        result = to_nko(row["latin_plain"], "none")
        assert bones(result.text) == bones(row["nqo"]), row
        assert bambara.TONE in {one.reason for one in result.unsure}


# Latin words in full notation, from a grammar of their own: every vowel with its accent
@st.composite
def full_latin(draw) -> str:
    parts: list[str] = []
    beats = draw(st.integers(1, 5))
    for beat in range(beats):
        final = beat == beats - 1
        onset = draw(st.sampled_from(ONSETS))
        if not parts and draw(st.booleans()):
            onset = ""
        vowel = draw(st.sampled_from("aeiouɛɔəü"))
        tones = ["high", "low", "rising", "long high", "long low", "long falling", "long rising"]
        tone = draw(st.sampled_from([*tones, "falling"] if final else tones))
        if tone.startswith("long"):
            first, second = {
                "long high": ("high", ""),
                "long low": ("low", ""),
                "long falling": ("high", "low"),
                "long rising": ("rising", ""),
            }[tone]
            written = vowel + ACCENT[first] + vowel + ACCENT.get(second, "")
        else:
            written = vowel + ACCENT[tone]
        parts.append(onset + written + draw(st.sampled_from(["", "n"])))
    return nfc("".join(parts))


@pytest.mark.expensive
@settings(max_examples=300)
@given(full_latin())
def test_latin_in_full_tone_comes_back(word):
    result = to_nko(word, "full")
    assert to_latin(result.text, "full").text == word
    assert not {one.reason for one in result.unsure} - {bambara.NASAL_N, bambara.NATIVE_G}


# N'Ko words spelled by the rules, from a grammar of their own
ORAL = st.sampled_from("ߊߋߌߍߎߏߐ")
PLAIN = [chr(code) for code in range(0x07D3, 0x07E8) if code not in (0x07E0, 0x07E3, 0x07E6, 0x07E7)]


@st.composite
def nko_word(draw) -> str:
    """Elision where the rule has it, na and nya woloso where they must stand, high marks at the end only."""
    beats = []
    for number in range(count := draw(st.integers(1, 5))):
        final = number == count - 1
        tone = draw(
            st.sampled_from(["", "\u07ec", "\u07ed", *"\u07ee\u07ef\u07f0\u07f1", *(["\u07eb"] if final else [])])
        )
        onset = draw(st.sampled_from([*PLAIN, "\u07dc\u07ed", "\u07d6\u07ed", "\u07dc\u07f3"]))
        if beats and beats[-1][2]:
            onset = draw(st.sampled_from([onset, "\u07e0", "\u07e7"]))
        beats.append((onset, draw(ORAL), draw(st.booleans()), tone))
    return "".join(spelled(beats))


def spelled(beats):
    dropped = False
    for number, (onset, vowel, nasal, tone) in enumerate(beats):
        following = beats[number + 1] if number + 1 < len(beats) else None
        dropped = (
            not dropped
            and following is not None
            and not nasal
            and following[0] != onset
            and following[1:3] == (vowel, False)
            and (tone, following[3]) in (("", ""), ("", "\u07eb"), ("\u07ec", "\u07ec"))
        )
        yield onset if dropped else onset + vowel + ("\u07f2" if nasal else "") + tone


@pytest.mark.expensive
@settings(max_examples=300)
@given(st.lists(nko_word(), min_size=1, max_size=3))
def test_nko_spelled_by_the_rules_comes_back(words):
    text = nfc(" ߸ ".join(words))
    # a last nɛn is taken for the participle: see IRREVERSIBLE
    assume(not any(re.search("\u07e0\u07cd\u07f2[\u07eb-\u07ed]?$", word) for word in words))
    assert to_nko(to_latin(text, "full").text, "full").text == text


@pytest.mark.parametrize("text", ["ߒ", "ߒ߬", "ߓߴߊ߬", "ߞߵߊ߬", "ߣߵߊ߬", "ߜߎߒߠߊ", "ߓߘߴߊ߬", "ߞߕ", "ߔߊߙߌߛ", "߁߭ ߂߲", "߁߉߉߃߹ ߊ߬؟"])
def test_short_words_loans_and_numbers_come_back(text):
    assert to_nko(to_latin(text, "full").text, "full").text == nfc(text)


@pytest.mark.parametrize(("text", "reason"), IRREVERSIBLE, ids=[reason for _, reason in IRREVERSIBLE])
def test_what_does_not_come_back_is_listed(text, reason):
    assert to_nko(to_latin(text, "full").text, "full").text != text


@pytest.mark.parametrize(
    ("nko", "full", "lexical"),
    [
        ("ߒ", "ń", "ń"),
        ("ߒ߬ߞߏ", "ǹkô", "ǹkó"),
        ("ߊߟߟߊ߯", "álláa", "állaa"),
        ("ߓߊ߱ߓߌ߫", "bǎabí", "bǎabí"),
        ("ߓߊ߮ߓߌ߫", "báàbí", "báabí"),
        ("ߓߊ߯ߓߌ߫", "báabí", "báabi"),
        ("ߓߊ߰ߓߌ߬ߓߊ", "bàabìbâ", "bàabibá"),
        ("ߓߊ߭ߓߌ߭ߓߎ߫", "bǎbǐbú", "bǎbǐbú"),
        ("ߛߑߞߏ߬", "skò", "skò"),
        ("ߞߵߊ߬ ߓߴߊ߬", "k̀'à b'à", "k'à b'à"),
        ("߁߭ ߁߂߸", "1̌ 12,", "1̌ 12,"),
    ],
)
def test_words_by_hand_in_both_notations(nko, full, lexical):
    assert to_latin(nko, "full").text == nfc(full)
    assert to_latin(nko, "lexical").text == nfc(lexical)


@pytest.mark.parametrize(
    ("latin", "nko"),
    [
        ("bann", "ߓߊ߲ߣ"),
        ("baaa", "ߓߊ߯ߊ"),
        ("Paris", "ߔߊߙߌߛ"),
        ("isko", "ߌߛߑߞߏ"),
        ("bàaŋ", "ߓߊ߲߰"),
        ("1,5, e", "߁,߅߸ ߋ"),
        ("ü ə", "ߎ߳ ߋ߳"),
    ],
)
def test_latin_words_by_hand(latin, nko):
    assert to_nko(latin).text == nfc(nko)


def test_bambara_in_nko_says_that_it_is_letter_by_letter():
    assert "letter by letter" in to_nko("tɔgɔ").note
    assert to_latin("ߕߐ߮").note == ""


def test_an_unmarked_vowel_goes_on_in_the_tone_before_it():
    assert to_nko("sàba") == to_nko("sàbà")
    assert to_nko("kùluun").text == "ߞߎ߬ߟߎ߲߰"


def test_other_scripts_and_signs_stay():
    text = "中 ﴾x﴿ ߷"
    assert to_latin(text).text == text
    assert to_nko("中 ߓߊ @").text == "中 ߓߊ @"


def test_a_word_against_the_rules_is_read_and_listed():
    result = to_latin("ߊ ߓߟߊ߲")
    assert result.text == "á bálan"
    assert [(one.position, one.source, one.reason) for one in result.unsure] == [
        (2, "ߓߟߊ߲", "vowel elided before another kind")
    ]


@given(st.text(st.one_of(st.characters(min_codepoint=0x07C0, max_codepoint=0x07FF), st.characters()), max_size=20))
def test_no_text_breaks_it(text):
    for tones in ("full", "lexical", "none"):
        assert unicodedata.is_normalized("NFC", to_latin(text, tones).text)
        assert unicodedata.is_normalized("NFC", to_nko(text, tones).text)


@cache
def lines(data: Path) -> list[str]:
    files = sorted((data / "text").glob("*.tsv"))
    return [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]


def survives(line: str) -> None:
    normalize.text_faults(line)
    normalize.normalize_for_scoring(line)
    normalize.strip_tones(line)
    for tones in ("full", "none"):
        assert not syllables.WORD.search(to_latin(line, tones).text)
        to_nko(line, tones)


@pytest.mark.expensive
def test_lines_of_every_shipped_text_are_read():
    for line in lines(TEST_DATA):
        survives(line)


@pytest.mark.slow
@needs_shared_data
@pytest.mark.timeout(600)
def test_all_lines_of_every_shared_text_are_read():
    for line in lines(SHARED_DATA):
        survives(line)


@pytest.mark.slow
@needs_shared_data
@pytest.mark.timeout(600)
def test_most_words_in_print_come_back():
    """A measurement with a floor: 95.7 % of the running words when it was written; most others begin in na woloso."""
    words = [
        word for line in lines(SHARED_DATA)[::10] for word in syllables.WORD.findall(nfc(line).replace("\u07fa", ""))
    ]
    back = sum(to_nko(to_latin(word, "full").text, "full").text == word for word in words)
    assert len(words) > 100_000
    assert back / len(words) > 0.95


def test_what_has_no_latin_sign_is_listed_where_it_stands():
    """Lajanyalan in a word and by itself, dantayalan, and marks without a letter."""
    text = "ߓߊ\u07fa\u07ef \u07fa\u07fa ߓ\u07fd \u07eb ߁\u07ed ߁\u07ec"
    result = to_latin(text, "none")
    assert result.text == "baa - b  1\u030c 1"
    found = [(one.position, one.source, one.reason) for one in result.unsure]
    dropped = {transliterate.STRETCH_DROPPED, transliterate.LONE_DASH, transliterate.ABBREVIATION_DROPPED}
    assert [one for one in found if one[2] in dropped | {transliterate.MARK_DROPPED}] == [
        (2, "\u07fa", transliterate.STRETCH_DROPPED),
        (5, "\u07fa\u07fa", transliterate.LONE_DASH),
        (9, "\u07fd", transliterate.ABBREVIATION_DROPPED),
        (11, "\u07eb", transliterate.MARK_DROPPED),
        (17, "\u07ec", transliterate.MARK_DROPPED),
    ]


def test_words_after_a_lajanyalan_are_listed_at_their_place():
    result = to_latin("ߓ\u07fa\u07fa\u07fa ߓߓߓ", "none")
    assert {one.position for one in result.unsure if one.source == "ߓߓߓ"} <= {5}

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from thunder.text.graphemes import graphemes

NKO = st.text(st.sampled_from("ߊߓ߲߬߫ߴߺ \u07d2a\u0301"), max_size=20)


def by_definition(text: str) -> list[str]:
    """A base and the marks after it: what the rule comes to where there is no Hangul, emoji or control character."""
    clusters: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        if clusters and unicodedata.category(character) == "Mn":
            clusters[-1] += character
        else:
            clusters.append(character)
    return clusters


@given(NKO)
def test_a_cluster_is_a_base_with_its_marks(text):
    assert graphemes(text) == by_definition(text)


def test_a_nasal_vowel_with_its_tone_is_one_letter_in_either_order():
    assert graphemes("\u07d3\u07ca\u07ec\u07f2") == ["\u07d3", "\u07ca\u07f2\u07ec"]

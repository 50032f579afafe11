import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from thunder.text.normalise import normalise

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

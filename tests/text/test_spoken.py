import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunder.text.alphabet import LATIN, NKO
from thunder.text.spoken import spoken


@pytest.mark.parametrize(
    ("text", "alphabet", "wanted"),
    [
        ("A ni sɔgɔma, «Fanta» !", LATIN, "a ni sɔgɔma fanta"),
        ("bɔr’a la - k'a ta.", LATIN, "bɔr'a la k'a ta"),
        ("Kɔ̀rɔ̀-lamini 'ye' (12)", LATIN, "kɔ\u0300rɔ\u0300-lamini ye 12"),
        ("ߊ߬ ߓߴߊ߬ ߝߐ߫߸ ߛߓߺߍ߫߹", NKO, "ߊ߬ ߓߴߊ߬ ߝߐ߫ ߛߓߍ߫"),
        ("ߊ߬ (a) ߁߂؟", NKO, "ߊ߬ a ߁߂"),
        ("... !?", LATIN, ""),
    ],
)
def test_what_is_not_heard_goes(text, alphabet, wanted):
    assert spoken(text, alphabet) == wanted


@given(st.text(max_size=30))
def test_what_is_spoken_says_the_same_again(text):
    for alphabet in (NKO, LATIN):
        once = spoken(text, alphabet)
        assert spoken(once, alphabet) == once

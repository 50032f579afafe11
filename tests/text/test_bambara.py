"""Latin Bambara in N'Ko letters: each guess of the spelling is reported."""

import pytest

from thunder.text import bambara
from thunder.text.transliterate import to_nko


@pytest.mark.parametrize(
    ("latin", "nko", "reason"),
    [
        ("baara", "ߓߊ߯ߙߊ", bambara.LENGTH),
        ("saba", "ߛߓߊ", bambara.ELISION),
        ("galo", "\u07dc\u07ed\u07ca\u07df\u07cf", bambara.NATIVE_G),
        ("jɛ́", "ߖߍ", bambara.FINAL_HIGH),
        ("tɔ́ɔ", "ߕߐ߮", bambara.FINAL_LONG),
        ("n'a", "ߣߴߊ", bambara.APOSTROPHE),
        ("n\u2019a", "ߣߴߊ", bambara.APOSTROPHE),
        ("nya", "ߢߊ", bambara.NASAL_N),
        ("donna", "ߘߏ߲ߠߊ", bambara.NASAL_N),
        ("bannɛn", "ߓߊ߲ߣߍ߲", bambara.NASAL_N),
        ("musow", "ߡߎߛߏߥ", bambara.PLURAL),
        ("garçon", "\u07dc\u07ed\u07ca\u07d9\u07d1\u07d7\u07cf\u07f2", bambara.NO_LETTER),
    ],
)
def test_every_guess_says_so(latin, nko, reason):
    result = to_nko(f"'{latin}' 12", "lexical")
    assert result.text == f"'{nko}' ߁߂"
    assert reason in {one.reason for one in result.unsure}
    assert {(one.position, one.source) for one in result.unsure} == {(1, latin)}

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunder.acoustic.synthesis.pronunciation import to_phonemes
from thunder.text.alphabet import LATIN
from thunder.text.normalize import spoken_form

HEARD = {
    "baara": "b a a ɾ a", "muso": "m u s o", "kɛnɛ": "k ɛ n ɛ", "sɔgɔma": "s ɔ ɡ ɔ m a", "ɲɛnɛ": "ɲ ɛ n ɛ",
    "ŋɔmi": "ŋ ɔ m i", "cɛ": "tʃ ɛ", "jɛ": "dʒ ɛ", "ban": "b a ŋ", "yiri": "j i r i",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a ni sɔgɔma", "a n|i s|O|g|O|m|a"),
        ("baara", "b|a:|r|a"),
        ("ban bana banbali", "b|a|N b|a|n|a b|a|N|b|a|l|i"),
        ("nyɛ ɲɛ ŋɔmi", "n^|E n^|E N|O|m|i"),
        ("n b'a fɔ", "n b|a f|O"),
        ("kɔ̀rɔ́-cɛ", "k|O|r|O tS|E"),
        ("sha gbara", "S|a gb|a|r|a"),
        ("", None),
        ("a 12", None),
        ("ߊ", None),
    ],
)
def test_letters_are_the_phonemes_that_they_stand_for(text, wanted):
    assert to_phonemes(text) == wanted


@given(st.text(st.sampled_from("abɛɔnygs h'\u0300-"), max_size=12))
def test_every_letter_of_a_spoken_text_has_a_sound_or_there_is_none(text):
    said = to_phonemes(spoken_form(text, LATIN))
    assert said is None or (said.split() and "||" not in said and not said.startswith("|"))


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="needs espeak-ng (Debian package espeak-ng)")
def test_the_voice_knows_every_sound_and_tells_the_open_vowels_from_the_closed():
    for text, wanted in HEARD.items():
        words = ["espeak-ng", "-v", "tn", "-q", "--ipa", f"[[{to_phonemes(text)}]]"]
        said = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=20).stdout
        assert said.strip().replace("ˈ", "").replace("ː", "") == wanted.replace(" ", "").replace("ɾ", "r"), text

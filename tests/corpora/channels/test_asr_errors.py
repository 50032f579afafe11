import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunder.corpora.channels.asr_errors import CONFUSIONS, corrupt_by_hand
from thunder.text.distance import edit_distance
from thunder.text.normalize import normalize_text

SENTENCE = "ߛߌߣߌ߲߫ ߸ ߡߏ߬ߛߏ ߠߎ߬ ߘߌ߫ ߓߊߛߑߞߌߞߊ߲ ߝߐ߫"
NKO = st.text(st.sampled_from(sorted(set(SENTENCE))), max_size=30)

EXAMPLES = {
    "words merged": ("ߓߊ ߘߌ", {"ߓߊߘߌ"}),
    "word split": ("ߓߊߘߌ", {"ߓߊ ߘߌ"}),
    "high tone lost": ("ߓߊ߫", {"ߓߊ"}),
    "high tone added": ("ߓߊ", {"ߓߊ߫"}),
    "low tone lost": ("ߓߊ߬", {"ߓߊ"}),
    "low tone added": ("ߓߊ߲", {"ߓߊ߲߬"}),
    "high tone as low": ("ߓߊ߫", {"ߓߊ߬"}),
    "low tone as high": ("ߓߊ߬", {"ߓߊ߫"}),
    "high tone as long high": ("ߓߊ߫", {"ߓߊ߯"}),
    "low tone as long low": ("ߓߊ߬", {"ߓߊ߰"}),
    "nasal dot lost": ("ߓߊ߲", {"ߓߊ"}),
    "nasal dot added": ("ߓߊ߬", {"ߓߊ߲߬"}),
    "la as na woloso": ("ߟߊ", {"ߠߊ"}),
    "na woloso as la": ("ߠߊ", {"ߟߊ"}),
    "dagbasinna lost": ("ߓߊߛߑߞߌ", {"ߓߊߛߞߌ"}),
    "comma lost": ("ߓߊ ߸ ߘߌ", {"ߓߊ ߘߌ"}),
    "i as open e": ("ߘߌ", {"ߘߍ"}),
    "i as closed e": ("ߘߌ", {"ߘߋ"}),
    "closed o as open o": ("ߞߏ", {"ߞߐ"}),
    "u as closed o": ("ߞߎ", {"ߞߏ"}),
    "a as open e": ("ߓߊ", {"ߓߍ"}),
    "open o as closed o": ("ߞߐ", {"ߞߏ"}),
    "syllable doubled": ("ߓߊ߬", {"ߓߊ߬ߓߊ߬"}),
}


@pytest.mark.parametrize("kind", CONFUSIONS, ids=lambda kind: kind.name)
def test_each_kind_of_mistake_can_happen(kind):
    text, wanted = EXAMPLES[kind.name]
    # of a thousand single mistakes even the rarest kind has its share
    made = {corrupt_by_hand(text, 1, random.Random(seed)) for seed in range(1000)}
    assert wanted <= made


def test_each_kind_has_an_example():
    assert {kind.name for kind in CONFUSIONS} == set(EXAMPLES)


@given(NKO, st.integers(0, 40), st.integers(0, 1000))
def test_it_is_repeatable_and_in_normal_form(text, mistakes, seed):
    damaged = corrupt_by_hand(text, mistakes, random.Random(seed))
    assert damaged == corrupt_by_hand(text, mistakes, random.Random(seed))
    assert damaged == normalize_text(damaged)


def test_no_mistake_changes_nothing():
    assert corrupt_by_hand(SENTENCE, 0, random.Random(1)) == SENTENCE


def test_mistakes_do_not_undo_one_another():
    distances = [edit_distance(corrupt_by_hand(SENTENCE, 5, random.Random(seed)), SENTENCE) for seed in range(50)]
    assert min(distances) >= 3
    assert 4.5 < sum(distances) / 50 < 7


def test_where_there_is_no_place_for_a_mistake_none_is_made():
    assert corrupt_by_hand("123", 5, random.Random(1)) == "123"
    assert corrupt_by_hand("", 5, random.Random(1)) == ""

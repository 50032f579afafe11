import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.corpora.splits.near_duplicates import HeldOutHashes, comparable_key, stretch_hashes

TEXTS = st.lists(st.text("abߊ", max_size=12), min_size=1, max_size=6)


def shares(one, other, size):
    return any(one[at : at + size] in other for at in range(len(one) - size + 1))


@pytest.mark.expensive
@settings(max_examples=150)
@given(TEXTS, TEXTS, st.integers(1, 6))
def test_as_brute_force_finds_them(held_texts, others, size):
    held = HeldOutHashes(size)
    for number, text in enumerate(held_texts):
        held.add([number], [text])
    for text, answer in zip(others, held.shared_with(others), strict=True):
        found = [number for number, other in enumerate(held_texts) if shares(text, other, size)]
        assert (answer in found) if found else answer is None


@settings(max_examples=60)
@given(TEXTS, st.integers(1, 6))
def test_hashes_are_those_of_each_text_by_itself(texts, size):
    found, numbers = stretch_hashes(texts, size)
    alone = [(code, at) for at, text in enumerate(texts) for code in stretch_hashes([text], size)[0].tolist()]
    assert list(zip(found.tolist(), numbers.tolist(), strict=True)) == alone
    assert len(set(found.tolist())) == len(
        {text[at : at + size] for text in texts for at in range(len(text) - size + 1)}
    )


def test_twenty_planted_are_twenty_found():
    draw = random.Random(5)
    words = ["".join(draw.choices("ߊߋߌߍߓߕߞߟ\u07eb", k=60)) for _ in range(2000)]
    held, others = HeldOutHashes(20), words[200:]
    held.add(range(200), words[:200])
    planted = draw.sample(range(len(others)), 20)
    owners = draw.sample(range(200), 20)
    for place, owner in zip(planted, owners, strict=True):
        at = draw.randrange(41)
        others[place] = others[place][:30] + words[owner][at : at + 20] + others[place][30:]
    answers = held.shared_with(others)
    assert {place: answers[place] for place in planted} == dict(zip(planted, owners, strict=True))
    assert sum(answer is not None for answer in answers) == 20


def test_nothing_held_shares_with_nothing():
    assert HeldOutHashes(3).shared_with(["abcdef"]) == [None]


@pytest.mark.parametrize("other", ["BƐ  Ala", "bɛ ala\n", "\ufeffbɛ a\u07fala"])
def test_what_no_reader_hears_makes_no_other_key(other):
    assert comparable_key(other) == "bɛ ala"

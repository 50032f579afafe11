"""Near duplicates by edits: the index finds what comparing all pairs finds."""

import random
import string

import pytest
from rapidfuzz.distance import Levenshtein

from thunder.corpora.splits.edit_neighbors import EditNeighbors, allowed_edits

LETTERS = "ߊߋߌߍߓߕߞߟ\u07eb "


def edited(text, times, draw):
    letters = list(text)
    for _ in range(times):
        at = draw.randrange(len(letters) + 1)
        match draw.choice(("insert", "delete", "substitute")):
            case "insert":
                letters.insert(at, draw.choice(LETTERS))
            case "delete" if letters:
                del letters[min(at, len(letters) - 1)]
            case "substitute" if letters:
                letters[min(at, len(letters) - 1)] = draw.choice(LETTERS)
    return "".join(letters)


def test_a_tenth_of_the_shorter_text_and_one_edit_of_short_ones():
    lengths = (0, 3, 4, 19, 20, 39, 40, 250, 5000)
    assert [allowed_edits(length) for length in lengths] == [0, 0, 1, 1, 2, 3, 4, 20, 20]
    assert allowed_edits(50, 0.0) == 0


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("alphabet", [LETTERS, "ߊߓ"])
def test_as_comparing_all_pairs_finds_them(share, alphabet):
    draw = random.Random(f"{share}{alphabet}")
    lengths = [*range(1, 60), 90, 140, 199, 200, 260]
    held = ["".join(draw.choices(alphabet, k=length)) for length in lengths]
    others = [edited(text, draw.randint(0, 2 + int(share * len(text))), draw) for text in held for _ in range(2)]
    index = EditNeighbors(share)
    index.add(range(100, 100 + len(held)), held)
    for text, answer in zip(others, index.near(others), strict=True):
        near = {
            100 + number
            for number, other in enumerate(held)
            if 0 < allowed_edits(min(len(text), len(other)), share) >= Levenshtein.distance(text, other)
        }
        assert (answer in near) if near else answer is None


def test_one_letter_twins_of_short_texts_are_found_and_others_are_not():
    index = EditNeighbors()
    index.add([5], ["ߓߊ߲ߓߊ"])
    assert index.near(["ߓߊ߲ߓߏ", "ߓߊ߲ߓߊߓ", "ߓߊߓߊ", "ߓߊ߲ߕߏ", "ߓߊ߲"]) == [5, 5, 5, None, None]


def test_no_share_and_no_held_out_text_find_nothing():
    index = EditNeighbors(0.0)
    index.add([0], ["ߓߊ߲ߓߊ"])
    assert index.near(["ߓߊ߲ߓߊ"]) == EditNeighbors().near(["ߓߊ߲ߓߊ"]) == [None]


def test_texts_added_later_are_found_too():
    index = EditNeighbors()
    index.add([0], [string.ascii_lowercase])
    assert index.near([string.digits * 3]) == [None]
    index.add([1], [string.digits * 3])
    assert index.near([string.digits * 3 + "x", string.ascii_lowercase[1:]]) == [1, 0]

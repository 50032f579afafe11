"""Texts as labels of either script."""

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from thunder.acoustic import labels
from thunder.errors import CorpusError
from thunder.kernels.ctc import is_impossible
from thunder.text.transliterate import to_nko


def test_latin_is_folded_and_the_digits_of_english_have_labels():
    assert labels.target_text("Thank you", {}, "latin") == "thank you"
    for word in "zero one two three four five six seven eight nine".split():
        assert labels.ALPHABETS["latin"].decode(labels.encode_labels(word, "latin")) == word


def test_a_text_of_the_other_script_is_transliterated_unless_one_is_given():
    assert labels.target_text("muso", {}, "nko") == to_nko("muso", "none").text
    assert labels.target_text("ߡߎ߬ߛߏ", {}, "latin") == "muso"
    assert labels.target_text("muso", {"text_nko": "ߡߎ߬ߛߏ"}, "nko") == "ߡߎ߬ߛߏ"
    assert labels.target_text("ߡߎ߬ߛߏ", {}, "nko") == "ߡߎ߬ߛߏ"


def test_dropped_characters_part_words():
    assert labels.target_text("one,two. ", {}, "latin", drop=",.") == "one two"


def test_every_row_with_strange_characters_is_named_with_them():
    with pytest.raises(CorpusError) as caught:
        labels.check_characters({"u1": "fine", "u2": "50 %", "u3": "a#b%"}, "latin")
    said = caught.value.message
    assert "2 texts" in said and "u2: '%' (U+0025)" in said and "u3: '#' (U+0023), '%'" in said and "u1" not in said
    assert "--drop" in caught.value.fix


@given(st.lists(st.integers(1, 3), min_size=1, max_size=8), st.integers(0, 20))
@limits(max_examples=60)
def test_frames_needed_is_what_the_kernel_calls_possible(ids, frames):
    arrays = mx.array([frames]), mx.array([ids]), mx.array([len(ids)])
    assert (labels.frames_needed(ids) > frames) == bool(is_impossible(*arrays).item())


def test_the_vocabulary_lists_every_label_by_its_id():
    for script in ("nko", "latin"):
        found = labels.label_vocabulary(script)
        assert found["labels"][0] == "<blank>" and len(found["labels"]) == labels.ALPHABETS[script].size
        assert labels.ALPHABETS[script].encode(found["labels"][5]) == [5]

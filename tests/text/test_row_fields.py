"""Rows are grouped by their number of code points."""

import pytest

from thunder.text import row_fields


@pytest.mark.parametrize(
    ("value", "name"), [(0, "to 20"), (20, "to 20"), (21, "over 20 to 50"), (200, "over 100 to 200"), (201, "over 200")]
)
def test_a_length_falls_into_the_first_bin_whose_limit_it_does_not_pass(value, name):
    assert row_fields.length_bin(value) == name


def test_the_bins_of_lengths_are_in_their_order():
    assert row_fields.LENGTH_BINS == ("to 20", "over 20 to 50", "over 50 to 100", "over 100 to 200", "over 200")


def test_a_rate_takes_the_form_that_is_given():
    assert row_fields.bin_name(0.25, (0.1, 0.3), ".1f") == "over 0.1 to 0.3"


def test_ids_are_texts():
    fields = {"id": 7, "feat_id": 7.0, "row_id": "07", "audio_id": None, "run_id": 3, "other": 5}
    row_fields.use_text_ids(fields)
    assert fields == {"id": "7", "feat_id": "7", "row_id": "07", "audio_id": None, "run_id": "3", "other": 5}


@pytest.mark.parametrize("value", [True, 0.5, float("inf"), [], {"a": 1}])
def test_what_is_no_id(value):
    with pytest.raises(ValueError, match="'id' is .*, not a text or a whole number"):
        row_fields.use_text_ids({"id": value})


@pytest.mark.parametrize(
    ("fields", "found"), [({"id": "", "row_id": 0}, "0"), ({}, "else"), ({"feat_id": None}, "else")]
)
def test_the_first_id_names_the_row(fields, found):
    assert row_fields.row_id(fields, "else") == found

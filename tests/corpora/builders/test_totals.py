"""Totals of a part: sums and rates are those of the rows, counted by hand."""

import pytest

from thunder.corpora.builders.totals import PartTotals, edit_counts, row_kinds

ROW = {"partition": "stable", "script": "nko", "mode": "plain", "origin": "real", "evidence_class": "smoke"}


@pytest.mark.parametrize(
    ("asr_text", "reference", "counts"),
    [
        # code points; graphemes; without tones; words: edits and length of each
        ("ߓߊ", "ߓߊ߬", (1, 3, 1, 2, 0, 2, 1, 1)),
        ("ߓߊ ߓߏ", "ߓߊ ߓߊ", (1, 5, 1, 5, 1, 5, 1, 2)),
        ("ߓߊ", "ߓߊ", (0, 2, 0, 2, 0, 2, 0, 1)),
    ],
)
def test_edits_in_every_unit(asr_text, reference, counts):
    assert edit_counts(asr_text, reference) == counts


def test_sums_and_rates_are_those_of_the_rows():
    totals = PartTotals()
    totals.add(1, 3, row_kinds(ROW), (1, 3, 1, 2, 0, 2, 1, 1))
    totals.add(0, 5, row_kinds(ROW | {"origin": "identity"}), None)
    totals.add(2, 4, row_kinds(ROW), (2, 4, 2, 4, 2, 4, 1, 3))
    summary = totals.as_dict()
    assert (summary["rows"], summary["edits"], summary["reference_chars"]) == (3, 3, 12)
    assert (summary["rows_without_error"], summary["rows_measured_in_every_unit"]) == (1, 2)
    assert summary["origin"] == {"identity": 1, "real": 2} and summary["script"] == {"nko": 3}
    # code points over all rows; the other units over the two measured rows
    assert list(totals.errors.rates().values()) == [3 / 12, 3 / 6, 2 / 6, 2 / 4]


def test_edits_without_any_reference_have_no_rate():
    totals = PartTotals()
    totals.add(2, 0, row_kinds(ROW), None)
    assert totals.errors.rates()["cer"] is None and totals.as_dict()["cer"] is None
    assert totals.as_dict()["edits"] == 2

"""Character error rates: what counts as an edit, and that the summary is that of the rows."""

from __future__ import annotations

import pytest

from thunder.evaluation.metrics.error_rate import score_prediction, summarize_predictions


def row(asr="", before="", after="", reference=""):
    return {
        "row_id": "one", "asr_text": asr, "prediction_before": before, "prediction_after": after,
        "reference_text": reference,
    }  # fmt: skip


def counted(**texts):
    return {
        key: value
        for key, value in score_prediction(row(**texts)).items()
        if key.startswith(("edits", "reference_chars"))
    }


def test_edits_of_each_text_against_the_reference():
    got = counted(asr="abx", before="ab", after="abc", reference="abc")
    assert got == {"reference_chars": 3, "edits_asr": 1, "edits_before": 1, "edits_after": 0}


@pytest.mark.parametrize("reference", ["abc ", "\n abc", "abc"])
@pytest.mark.parametrize("answer", ["abc", " abc\n"])
def test_space_around_a_text_is_not_counted(reference, answer):
    """The chat template trims every turn, so that no model can learn or give the space around an answer."""
    got = counted(asr=" abx", before=answer, after=answer, reference=reference)
    assert got == {"reference_chars": 3, "edits_asr": 1, "edits_before": 0, "edits_after": 0}


def test_space_inside_counts_and_the_row_keeps_its_texts():
    texts = row(asr="a  b ", before="ab", after="a b", reference=" a b")
    got = score_prediction(texts)
    assert (got["edits_asr"], got["edits_before"], got["edits_after"]) == (1, 1, 0)
    assert {key: got[key] for key in texts} == texts


def test_the_summary_adds_up_before_it_divides():
    rows = [
        score_prediction(row(asr="ax", before="ab", after="ab", reference="ab")),
        score_prediction(row(asr="", before="abc", after="abcdx", reference="abcdef ")),
    ]
    assert summarize_predictions(rows) == {
        "rows": 2, "reference_chars": 8, "cer_asr": 7 / 8, "cer_before": 3 / 8, "cer_after": 2 / 8,
        "improved": 1, "unchanged": 1, "worse": 0, "exact_before": 1, "exact_after": 1,
    }  # fmt: skip

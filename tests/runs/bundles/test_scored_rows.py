"""Scored rows: rows of any content are read or are a fault, and equal texts have no edits."""

from __future__ import annotations

import planted_runs
import pytest
from bundle_edits import PREDICTIONS, REFERENCES, edit

from thunder.runs.bundles import bundle


@pytest.fixture
def run(tmp_path):
    return planted_runs.recognizer_run(tmp_path)


def test_marks_in_another_order_are_no_edits(run):
    """U+07F2 and a tone mark after one letter: the same text in two orders."""

    def change(rows):
        rows[0] |= {"asr_text": "ߊ߲߫", "reference_text": "ߊ߲߫", "cer_edits": 0, "reference_chars": 3}

    edit(run / PREDICTIONS, change)
    edit(run / REFERENCES, lambda rows: rows[0].update(reference_text="ߊ߲߫"))
    assert not [fault for fault in bundle.bundle_faults(run) if "cer_edits" in fault and "utterance-0000" in fault]


@pytest.mark.parametrize("text", [b"{", b"[1]\n", b"\xff\n", b'{"feat_id": "a"}', b""])
def test_whatever_stands_in_the_rows_it_is_a_fault(run, text):
    (run / PREDICTIONS).write_bytes(text)
    assert bundle.bundle_faults(run)

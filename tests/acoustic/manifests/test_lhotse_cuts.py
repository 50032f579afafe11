"""Cuts of lhotse as rows; those that are no piece of one file are named."""

from __future__ import annotations

import pytest

from thunder.acoustic.manifests.lhotse_cuts import is_cut, rows_of_cut
from thunder.corpora.rows.jsonl_lines import LineFault

RECORDING = {"id": "r", "sources": [{"type": "file", "channels": [0, 1], "source": "a.wav"}]}
SUPERVISION = {"id": "s", "start": 0.5, "duration": 1.0, "text": "x", "speaker": "awa", "custom": {"dialect": "d"}}
CUT = {"id": "c", "type": "MonoCut", "start": 2.0, "duration": 4.0, "channel": 1, "supervisions": [SUPERVISION],
       "recording": RECORDING}  # fmt: skip


def test_a_cut_with_one_supervision_is_one_row():
    assert is_cut(CUT) and not is_cut({"audio": "a.wav"})
    row = {"id": "c", "audio": "a.wav", "offset": 2.0, "duration": 4.0, "channel": 1}
    assert rows_of_cut(CUT) == [row | {"text": "x", "speaker": "awa", "dialect": "d"}]
    assert rows_of_cut(CUT | {"supervisions": []}) == [row]


def test_a_cut_with_several_supervisions_is_a_row_for_each():
    second = SUPERVISION | {"id": "t", "start": 2.0, "text": "y"}
    rows = rows_of_cut(CUT | {"supervisions": [SUPERVISION, second]})
    assert [(row["id"], row["offset"], row["duration"], row["text"]) for row in rows] == [
        ("s", 2.5, 1.0, "x"), ("t", 4.0, 1.0, "y")
    ]  # fmt: skip


def test_a_recording_alone_is_its_file():
    assert rows_of_cut(RECORDING | {"sampling_rate": 16000}) == [{"id": "r", "audio": "a.wav"}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "MixedCut"}, "is a MixedCut of lhotse"),
        ({"recording": None}, "without its recording"),
        ({"recording": {"sources": [{"type": "command", "source": "sox |"}]}}, "of type 'command', expected 'file'"),
        ({"recording": {"sources": []}}, "has not one source"),
    ],
)
def test_cuts_that_are_no_piece_of_a_file(change, message):
    with pytest.raises(LineFault, match=message):
        rows_of_cut(CUT | change)

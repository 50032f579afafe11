"""Fields of one row: names of several toolkits, pieces of a file, and ids without absolute paths."""

from __future__ import annotations

import pytest

from thunder.acoustic.manifests.recording_fields import Segment, parse_recording
from thunder.corpora.rows.jsonl_lines import LineFault


@pytest.mark.parametrize(
    ("row", "segment", "seconds"),
    [
        ({}, None, None),
        ({"duration": 2.5}, None, 2.5),
        ({"offset": 1.0, "duration": 2.5}, Segment(1.0, 2.5), None),
        ({"offset": 0, "duration": "2.5"}, Segment(0.0, 2.5), None),
        ({"start": 1.0, "end": 3.5}, Segment(1.0, 2.5), None),
        ({"start_time": "1", "end_time": "3.5"}, Segment(1.0, 2.5), None),
        ({"end": 0.5}, Segment(0.0, 0.5), None),
        ({"offset": 4}, Segment(4.0), None),
        ({"channel": 1, "duration": 2.5}, Segment(channel=1), 2.5),
        ({"channel": 0, "start": 1, "end": 2, "duration": 1.0}, Segment(1.0, 1.0, 0), None),
    ],
)
def test_pieces_of_a_file(row, segment, seconds):
    found = parse_recording({"audio": "a.wav"} | row)
    assert (found.segment, found.seconds) == (segment, seconds)
    assert found.extra == row  # the store keeps them


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"offset": -1}, "'offset' is -1, expected seconds"),
        ({"offset": "soon"}, "'offset' is 'soon', expected seconds"),
        ({"duration": float("inf")}, "expected seconds"),
        ({"start": 2, "end": 1}, "ends at 1 s and starts at 2 s"),
        ({"start": 1, "end": 2, "duration": 5}, "'duration' is 5, but start and end are 1 s apart"),
        ({"offset": 1, "duration": 0}, "holds no samples"),
        ({"channel": "left"}, "'channel' is 'left', expected a whole number"),
        ({"audio": {"bytes": "..", "path": None}}, "holds the sound itself"),
        ({"audio": None}, "names no recording"),
    ],
)
def test_fields_that_cannot_be_meant(row, message):
    with pytest.raises(LineFault, match=message):
        parse_recording({"audio": "a.wav"} | row)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"audio": "sub/a.wav"}, "sub/a"),
        ({"audio": "/home/somebody/a.wav"}, "a"),
        ({"audio": "/x/a.wav", "offset": 1.25, "duration": 0.5}, "a-0001250-0001750"),
        ({"audio": "a.wav", "offset": 1.25}, "a-0001250-end"),
        ({"audio": "a.wav", "channel": 1}, "a-ch1"),
    ],
)
def test_the_default_id_is_never_an_absolute_path(row, name):
    assert parse_recording(row).default_id() == name


@pytest.mark.parametrize("name", ["text", "transcript", "sentence", "transcription", "normalized_text"])
def test_names_of_the_text(name):
    assert parse_recording({"audio": "a.wav", name: "x", "client_id": "c"}).text == "x"

"""The hand-written channel: it says what it is, and has the direction of the real edits."""

import json

import pytest
from conftest import shipped_and_whole

from thunder.corpora.channels.error_channel import learn_error_channel
from thunder.corpora.channels.hand_written import CHANGES, hand_written_channel


@pytest.mark.parametrize(
    ("path", "share"), shipped_and_whole("rows/nqo_human_edits_v1_to_v4.jsonl", 0.08, whole=(1.0,))
)
def test_the_hand_written_channel_says_so_and_has_the_direction_of_the_real_edits(path, share):
    channel = hand_written_channel()
    assert channel.name == "hand-written"
    assert channel.provenance["learned_from_recogniser_output"] is False
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    learned = learn_error_channel(((row["before"], row["after"]) for row in rows), worst_cer=0.3)
    assert round(learned.provenance["reference_chars"] / channel.gaps, 6) == share
    for heard, (_, errors) in CHANGES.items():
        for instead, times in errors.items():
            # counted with another alignment, so not the same numbers, yet of one order
            assert 0.15 < times * share / learned.changes[heard][instead] < 3, (heard, instead)

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunder.corpora.channels.error_channel import END, SEEN_OFTEN, START, channel_from_json, learn_error_channel
from thunder.corpora.channels.hand_written import hand_written_channel
from thunder.errors import CorpusError
from thunder.text import distance
from thunder.text.alphabet import character_kind
from thunder.text.normalize import normalize_text

TEXT = st.text(st.sampled_from("ߊߓߟ߲߬ "), max_size=12)


def test_each_error_is_counted_where_it_was_made():
    reference, hypothesis = "ߓߊ߬ ߟߏ ߞߋ ߡߌ", "ߓߊ ߟߏߞߋ ߡߍ߫"
    channel = learn_error_channel([(hypothesis, reference)] * SEEN_OFTEN)
    assert channel.changes["\u07ec"] == {"\u07ec": 0, "": 20}  # low tone lost
    assert channel.changes["\u07ca\u07ec "] == {"\u07ec": 0, "": 20}  # between a and a space
    assert channel.changes[" "] == {" ": 40, "": 20}  # two words of four merged
    assert channel.changes["\u07cf "] == {" ": 0, "": 20}  # those after o
    assert channel.changes["\u07cc"] == {"\u07cc": 0, "\u07cd": 20}
    assert channel.changes["\u07d3"] == {"\u07d3": 20}
    assert channel.insertions["\u07cc" + END] == {"": 0, "\u07eb": 20}
    assert channel.insertions[""] == {"": (12 + 1) * 20 - 20, "\u07eb": 20}
    assert channel.insertions[START + "\u07d3"] == {"": 20}
    assert channel.runs == {"mark": {"1": 20}, "space": {"1": 20}}
    assert channel.loops == {}


def test_what_is_lost_together_is_one_loss_with_its_length():
    channel = learn_error_channel([("ߓߊ", "ߓߊ ߟߏ߬ߞߋ")] * SEEN_OFTEN)
    assert channel.runs == {"space": {"6": 20}}
    assert channel.changes[" "] == {" ": 0, "": 20}
    # the five others went with it: they neither stayed nor were lost by themselves
    assert not {"\u07df", "\u07cf", "\u07ec", "\u07de", "\u07cb"} & {key for key in channel.changes if len(key) == 1}


@pytest.mark.parametrize(
    ("hypothesis", "reference", "loops"),
    [
        ("ߓߊߓߊߟߏ", "ߓߊߟߏ", {"2x1": 20}),
        ("ߟߏߟߏߟߏߟߏ", "ߟߏ", {"2x3": 20}),
        ("ߓߊ ߟߏ ߟߏ ߟߏ", "ߓߊ ߟߏ", {"3x2": 20}),
        ("ߓߊߞߌߟߏ", "ߓߊߟߏ", {}),
        # after text that was inserted, and after text that was lost, before the loop
        ("ߡߌߞߓߊ ߟߏߟߏ", "ߞߓߊ ߟߏ", {"2x1": 20}),
        ("ߓߊ ߟߏߟߏ", "ߞߌߡߓߊ ߟߏ", {"2x1": 20}),
    ],
)
def test_repeated_text_is_a_loop_and_other_text_is_not(hypothesis, reference, loops):
    channel = learn_error_channel([(hypothesis, reference)] * SEEN_OFTEN, worst_cer=5)
    assert channel.loops == loops
    if not loops:
        assert channel.insertions["ߊߟ"] == {"": 0, "ߞߌ": 20}


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6))
def test_every_code_point_and_every_gap_is_counted_once(pairs):
    pairs = [(normalize_text(hypothesis), normalize_text(reference)) for hypothesis, reference in pairs]
    used = [(one, other) for one, other in pairs if other and distance.edit_distance(one, other) <= 3 * len(other)]
    if sum(distance.edit_distance(*pair) for pair in used) == 0:
        with pytest.raises(CorpusError):
            learn_error_channel(pairs, worst_cer=3.0)
        return
    channel = learn_error_channel(pairs, worst_cer=3.0)
    together = sum((int(size) - 1) * n for row in channel.runs.values() for size, n in row.items())
    counted = sum(n for context, row in channel.changes.items() if len(context) == 1 for n in row.values())
    assert counted + together == sum(len(reference) for _, reference in used)
    assert all(n >= 0 for row in channel.changes.values() for n in row.values())
    assert channel.gaps == sum(len(reference) + 1 for _, reference in used)
    assert sum(channel.insertions[""].values()) == channel.gaps
    # every edit is told of by the counts
    singles = [(context, row) for context, row in channel.changes.items() if len(context) == 1]
    swapped = sum(n for context, row in singles for heard, n in row.items() if heard not in ("", context))
    lost = sum(int(size) * n for row in channel.runs.values() for size, n in row.items())
    extra = sum(len(inserted) * n for inserted, n in channel.insertions[""].items())
    looped = sum(int(loop.split("x")[0]) * int(loop.split("x")[1]) * n for loop, n in channel.loops.items())
    assert swapped + lost + extra + looped == channel.provenance["edits"]
    assert channel.provenance["edits"] == sum(distance.edit_distance(*pair) for pair in used)


def test_losses_are_begun_as_often_as_runs_are():
    channel = learn_error_channel([("ߊ", "ߊ߬ߓߊ߬"), ("ߓ", "ߓߊ ")] * 30, worst_cer=5)
    begun = Counter()
    for context, row in channel.changes.items():
        if len(context) == 1:
            begun[character_kind(context)] += row.get("", 0)
    assert +begun == {kind: sum(row.values()) for kind, row in channel.runs.items()}


def test_pairs_that_teach_nothing_are_left_out_and_counted():
    pairs = [("ߓߊ", "ߓߊ߬"), ("ߓߊ", ""), ("ߓߊߓߊߓߊߓߊ", "ߟ"), ("ߟ", "ߟ")]
    found = learn_error_channel(iter(pairs), {"file": "rows.jsonl"}).provenance
    assert found == {
        "file": "rows.jsonl",
        "pairs": 2,
        "pairs_without_reference": 1,
        "pairs_over_worst_cer": 1,
        "worst_cer": 1.0,
        "edits": 1,
        "reference_chars": 4,
        "cer": 0.25,
    }


def test_without_an_error_there_is_no_channel():
    with pytest.raises(CorpusError, match="no pair with an error among 1 "):
        learn_error_channel([("ߓߊ", "ߓߊ"), ("ߞ", "")])


def test_severities_are_even_parts_of_the_rows_and_their_mean_is_one():
    rows = [("ߓ" * (100 - wrong), "ߓ" * 100) for wrong in range(1, 41)]
    severities = learn_error_channel(rows).severities
    assert len(severities) == 20
    assert severities == tuple(sorted(severities))
    assert sum(severities) / 20 == pytest.approx(1)
    assert severities[0] == pytest.approx(1.5 / 20.5, abs=1e-6)


def test_a_channel_survives_its_file():
    channel = learn_error_channel([("ߓߊ\u2028", "ߓߊ߬ ")] * 3)
    assert channel_from_json(channel.to_json(), "c.json") == channel
    assert channel_from_json(hand_written_channel().to_json(), "c.json") == hand_written_channel()


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: [],
        lambda value: {name: value[name] for name in value if name != "gaps"},
        lambda value: value | {"more": 1},
        lambda value: value | {"changes": {"a": {"a": -1}}},
        lambda value: value | {"runs": {"letter": 3}},
        lambda value: value | {"runs": {"letter": {"0": 3}}},
        lambda value: value | {"insertions": {"": {"a": "1"}}},
        lambda value: value | {"loops": {"2x0": 1}},
        lambda value: value | {"gaps": True},
        lambda value: value | {"severities": []},
        lambda value: value | {"severities": [-1.0]},
    ],
)
def test_a_damaged_file_is_refused_by_name(damage):
    text = json.dumps(damage(json.loads(hand_written_channel().to_json())))
    with pytest.raises(CorpusError, match="c.json"):
        channel_from_json(text, "c.json")
    with pytest.raises(CorpusError, match="not JSON"):
        channel_from_json(text[:-1], "c.json")

import json
import unicodedata
from itertools import combinations

import jiwer
import pytest
from conftest import TEST_DATA, shipped_and_whole
from hypothesis import assume, given
from hypothesis import strategies as st

from thunder.text.distance import (
    ErrorCount,
    ErrorCounts,
    align_texts,
    count_all_errors,
    count_errors,
    edit_distance,
    grapheme_clusters,
    pairwise_distances,
    split_units,
)
from thunder.text.normalize import normalize_text

# letters, tone marks, the nasal dot and a space: short, so that the table below stays small
TEXT = st.text(st.sampled_from("\u07ca\u07d3\u07df\u07e0\u07eb\u07ec\u07f2 a"), max_size=12)
UNITS = st.sampled_from(["codepoint", "grapheme", "toneless", "word"])


def by_table(left, right) -> int:
    """The definition: the last cell of the dynamic programming table."""
    row = list(range(len(right) + 1))
    for i, one in enumerate(left, start=1):
        previous, row = row, [i]
        for j, other in enumerate(right, start=1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (one != other)))
    return row[-1]


@given(TEXT, TEXT)
def test_it_equals_the_table(hypothesis, reference):
    assert edit_distance(hypothesis, reference) == by_table(normalize_text(hypothesis), normalize_text(reference))


@given(TEXT, TEXT, UNITS)
def test_it_equals_the_table_in_every_unit(hypothesis, reference, unit):
    wanted = split_units(reference, unit)
    table = by_table(split_units(hypothesis, unit), wanted)
    assert edit_distance(hypothesis, reference, unit) == table
    assert count_errors(hypothesis, reference, unit) == ErrorCount(table, len(wanted))


@given(TEXT, TEXT)
def test_the_rate_equals_that_of_jiwer(hypothesis, reference):
    # jiwer strips its texts and refuses an empty reference
    hypothesis, reference = normalize_text(hypothesis).strip(), normalize_text(reference).strip()
    assume(reference)
    assert count_errors(hypothesis, reference).rate == pytest.approx(jiwer.cer(reference, hypothesis))


@given(st.lists(st.tuples(TEXT, TEXT.filter(str.strip)), min_size=1, max_size=4))
def test_the_micro_averages_equal_those_of_jiwer(pairs):
    pairs = [(normalize_text(hypothesis).strip(), normalize_text(reference).strip()) for hypothesis, reference in pairs]
    total = sum((count_all_errors(*pair) for pair in pairs), ErrorCounts()).rates()
    hypotheses, references = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    assert total["cer"] == pytest.approx(jiwer.cer(references, hypotheses))
    assert total["wer"] == pytest.approx(jiwer.wer(references, hypotheses))


@given(TEXT, TEXT, UNITS)
def test_an_alignment_leads_from_reference_to_hypothesis_in_the_fewest_edits(hypothesis, reference, unit):
    wanted, operations = split_units(reference, unit), align_texts(hypothesis, reference, unit)
    assert [one.reference for one in operations if one.kind != "insertion"] == list(wanted)
    assert [one.hypothesis for one in operations if one.kind != "deletion"] == list(split_units(hypothesis, unit))
    changes = [one for one in operations if one.kind != "equal"]
    assert len(changes) == by_table(wanted, split_units(hypothesis, unit))
    assert align_texts(hypothesis, reference, unit, equal=False) == changes
    place = 0
    for one in operations:
        assert one.position == place
        assert (one.kind == "equal") == (one.reference == one.hypothesis)
        assert (one.kind == "insertion") == (not one.reference)
        assert (one.kind == "deletion") == (not one.hypothesis)
        place += one.kind != "insertion"


@pytest.mark.parametrize(
    ("hypothesis", "reference", "wanted"),
    [
        ("ߡߍ߫", "ߡߌ", [("substitution", "ߌ", "ߍ"), ("insertion", "", "\u07eb")]),
        ("ߡߌ", "ߡߍ߫", [("substitution", "ߍ", "ߌ"), ("deletion", "\u07eb", "")]),
    ],
)
def test_of_the_shortest_alignments_the_one_that_puts_like_for_like(hypothesis, reference, wanted):
    assert [one[:3] for one in align_texts(hypothesis, reference, equal=False)] == wanted


def likest_by_trying(few: str, many: str) -> int:
    """Most pairs of one kind over all ways to put the few with the many in order."""
    kinds = {letter: unicodedata.category(letter)[0] for letter in few + many}
    ways = combinations(range(len(many)), len(few))
    return max(sum(kinds[a] == kinds[many[at]] for a, at in zip(few, way, strict=True)) for way in ways)


@given(st.text(st.sampled_from("ߊ߬ "), min_size=1, max_size=4), st.text(st.sampled_from("ߓ߫."), min_size=1, max_size=7))
def test_no_other_way_puts_more_like_for_like(reference, hypothesis):
    # nothing is equal, so the whole is one stretch; joined letters first, for the normal form
    assume(normalize_text(reference) == reference and normalize_text(hypothesis) == hypothesis)
    pairs = [one for one in align_texts(hypothesis, reference) if one.kind == "substitution"]
    alike = sum(unicodedata.category(one.reference)[0] == unicodedata.category(one.hypothesis)[0] for one in pairs)
    assert alike == likest_by_trying(*sorted([reference, hypothesis], key=len))


def test_an_unknown_unit_is_refused():
    with pytest.raises(ValueError, match="syllable"):
        split_units("", "syllable")


def test_the_order_of_marks_is_no_edit():
    assert edit_distance("\u07d3\u07ca\u07ec\u07f2", "\u07d3\u07ca\u07f2\u07ec") == 0


def test_a_lost_tone_is_one_edit_of_three_code_points():
    assert count_errors("ߓߊ", "ߓߊ߬") == ErrorCount(edits=1, reference_chars=3)


def test_a_lost_tone_is_counted_in_every_unit():
    counts = count_all_errors("\u07d3\u07ca \u07df\u07ca", "\u07d3\u07ca\u07f2\u07ec \u07df\u07ca")
    assert counts == ErrorCounts(
        codepoint=ErrorCount(2, 7), grapheme=ErrorCount(1, 5), toneless=ErrorCount(1, 6), word=ErrorCount(1, 2)
    )
    assert counts.rates() == {"cer": 2 / 7, "cer_grapheme": 1 / 5, "cer_toneless": 1 / 6, "wer": 1 / 2}


def test_counts_add_up_before_they_are_divided():
    total = sum([ErrorCount(1, 2), ErrorCount(0, 8)], ErrorCount())
    assert total == ErrorCount(1, 10)
    assert total.rate == 0.1


def test_without_a_reference_the_rate_is_zero_or_unknown_and_stays_json():
    assert count_errors("", "").rate == 0.0
    assert count_errors("a", "").rate is None
    json.dumps(count_errors("a", "").rate, allow_nan=False)


def test_the_rate_can_pass_one():
    assert count_errors("abc", "x").rate == 3.0


@pytest.mark.parametrize(
    ("path", "rows", "hypothesis", "reference", "logged"),
    [
        (TEST_DATA / "rows" / "bam_asr_hyp_ref_nemo_log.jsonl", 1352, "hyp", "ref", "cer"),
        *shipped_and_whole(
            "rows/nqo_human_edits_v1_to_v4.jsonl",
            *(372, "before", "after", "cer_cp"),
            whole=(4459, "before", "after", "cer_cp"),
        ),
    ],
)
def test_recomputed_rates_equal_the_logged_ones(path, rows, hypothesis, reference, logged):
    table = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(table) == rows
    # both are logged as code point edits over code points of the reference, to four decimals; no row differs
    differing = [
        row["id"] for row in table if round(count_errors(row[hypothesis], row[reference]).rate, 4) != row[logged]
    ]
    assert differing == []


CLUSTERED = st.text(st.sampled_from("ߊߓ߲߬߫ߴߺ \u07d2a\u0301"), max_size=20)


def by_definition(text: str) -> list[str]:
    """A base and the marks after it: what the rule comes to where there is no Hangul, emoji or control character."""
    clusters: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        if clusters and unicodedata.category(character) == "Mn":
            clusters[-1] += character
        else:
            clusters.append(character)
    return clusters


@given(CLUSTERED)
def test_a_cluster_is_a_base_with_its_marks(text):
    assert grapheme_clusters(text) == by_definition(text)


def test_a_nasal_vowel_with_its_tone_is_one_letter_in_either_order():
    assert grapheme_clusters("\u07d3\u07ca\u07ec\u07f2") == ["\u07d3", "\u07ca\u07f2\u07ec"]


def test_pairwise_distances_stop_at_the_limit():
    found = pairwise_distances(["ߓߊ", "ߓߊߓߊ", ""], ["ߓߊ", "ߓߏ", "ߓߊߓߊ"], 2)
    assert found.tolist() == [0, 3, 3]

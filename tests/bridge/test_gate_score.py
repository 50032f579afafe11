"""Proposals scored behind the gate: counted again by other means, and what they are evidence of."""

from __future__ import annotations

import json

import pytest
from conftest import REPOSITORY, write_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.bridge import gate_score
from thunder.bridge.gate import gate_rules
from thunder.bridge.gate_score import CertainOracleEngine, GateScorer, weakest_evidence_class
from thunder.errors import CorpusError
from thunder.evaluation import cases
from thunder.evaluation.engines import Proposal

BOOK = gate_rules.read_gate_rules()
FIXTURES = REPOSITORY / "tests" / "evaluation" / "fixtures"
TEXT, BETTER, OTHER = "ߣߋߤߍߛߍ ߡߌ ߓ", "ߣߋߛߍߛߍ ߡߌ ߓ", "ߣߋߡߍߛߍ ߡߌ ߓ"
SURE = {"confidence": -0.05, "margin": 0.2}


def case_of(partition="uncertain", **fields):
    fields = {"asr_text": TEXT, "reference_text": BETTER, "partition": partition, **fields}
    return cases.Case(0, "r", TEXT, fields["reference_text"], (), partition, "nko", fields.get("evidence_class"), True,
                      fields)  # fmt: skip


def scored(*pairs):
    scorer = GateScorer(BOOK)
    rows = [scorer.judge(case, proposal) for case, proposal in pairs]
    return rows, scorer.add_up(rows)["gate"]


def test_a_row_says_what_was_decided_and_by_which_partition():
    [row], _ = scored((case_of("strange"), Proposal(BETTER, **SURE)))
    assert (row["decision"], row["accepted"], row["partition"], row["partition_source"]) == (
        "reject", False, "novelty", "unknown")  # fmt: skip
    assert {rule for rule, _ in row["reasons"]} == {"edits", "ratio"}
    assert row["edits_after"]["codepoint"] == row["edits_before"]["codepoint"] == 1
    assert row["edits_proposal"]["codepoint"] == 0


def test_another_gates_word_does_not_count_here():
    """Decisions of other rules can be judged anew; a proposal that was taken back is one to leave the input."""
    rows, told = scored(
        (case_of(), Proposal(BETTER, accepted=False, **SURE)), (case_of(), Proposal(TEXT, accepted=False))
    )
    assert [row["decision"] for row in rows] == ["accept", "keep"]
    assert told["decisions"] == {"accept": 1, "reject": 0, "keep": 1}


def test_what_is_counted_of_the_rejected():
    pairs = [
        (case_of("stable"), Proposal(BETTER, **SURE)),  # better, refused
        (case_of("stable"), Proposal(OTHER, **SURE)),  # as many edits
        (case_of("stable"), Proposal(OTHER + "ߡ", **SURE)),  # more
        (case_of(), Proposal(BETTER, confidence=None, margin=None)),  # better, not sure
        (case_of(), Proposal(BETTER, **SURE)),  # accepted
        (case_of(reference_text=""), Proposal("", **SURE)),  # rejected, but there is nothing to count against
    ]
    _, told = scored(*pairs)
    assert told["refused"] == {"better": 2, "same": 1, "worse": 1}
    assert told["decisions"] == {"accept": 1, "reject": 5, "keep": 0}
    assert told["by_partition"] == {
        "stable": {"accept": 0, "reject": 3, "keep": 0}, "uncertain": {"accept": 1, "reject": 2, "keep": 0}
    }  # fmt: skip
    assert told["reasons"]["confidence"] == 1 and told["reasons"]["empty"] == 1
    assert told["reasons"]["edits"] == 4  # three of stable, and all of a text taken away
    assert told["admissible"] == 1 and told["breaker"] is None and told["rules_id"] == BOOK.id


def test_the_breaker_is_told_and_not_applied():
    rows, told = scored(*[(case_of(), Proposal(BETTER, **SURE))] * 20)
    assert "20 of 20 rows would be changed" in told["breaker"]
    assert all(row["accepted"] for row in rows)


@pytest.mark.parametrize("said, wanted", [
    ((), "prediction_only"), (("smoke",), "smoke"), (("real_same_provenance",) * 3, "real_same_provenance"),
    (("real_same_provenance", "smoke"), "smoke"), (("synthetic", "smoke"), "smoke"),
    (("real_same_provenance", None), "not said"), (("real_same_provenance", "oracle"), "oracle"),
    (("real_same_provenance", "real_other_provenance"), "real_other_provenance"),
    (("real_same_provenance", "very real"), "very real"), (("synthetic", "real_other_provenance"), "synthetic"),
    (("prediction_only", "real_same_provenance"), "prediction_only"),
])  # fmt: skip
def test_a_whole_is_worth_what_its_weakest_row_is(said, wanted):
    rows = [{"evidence_class": each, "reference_units": {"codepoint": 5}} for each in said]
    bare = [{"evidence_class": "real_same_provenance", "reference_units": {"codepoint": 0}}]
    assert weakest_evidence_class([*rows, *bare]) == wanted == weakest_evidence_class([*bare, *reversed(rows)])


def test_the_oracle_has_references_or_says_which_are_missing():
    engine = CertainOracleEngine()
    [proposal] = engine.propose([case_of()])
    assert scored((case_of(), proposal))[0][0]["decision"] == "accept"
    with pytest.raises(CorpusError, match="row 'r' has no reference"):
        engine.propose([case_of(), case_of(reference_text=" ")])
    assert engine.describe() == {"engine": "oracle"}


def test_rows_that_hold_proposals_and_rows_that_do_not(tmp_path):
    row = {"asr_text": TEXT, "reference_text": BETTER}
    with_one = write_rows(tmp_path / "a.jsonl", [{"id": "a", "proposal": BETTER, **row}, {"id": "b", **row}])
    with pytest.raises(CorpusError, match="a.jsonl:2: no proposal"):
        gate_score.recorded_proposals(cases.read_cases(with_one))
    without = write_rows(tmp_path / "b.jsonl", [{"id": "a", **row}])
    with pytest.raises(CorpusError, match="no row holds a proposal") as caught:
        gate_score.recorded_proposals(cases.read_cases(without))
    assert "--engine" in caught.value.fix


@given(st.lists(st.tuples(
    st.sampled_from(["stable", "boundary", "uncertain", "novelty", "strange"]),
    st.sampled_from([TEXT, BETTER, OTHER, "", BETTER + " ߓ", TEXT.replace("ߡ", "m")]),
    st.sampled_from([None, -0.01, -0.5]), st.sampled_from([None, 0.3, -0.3]),
), max_size=25))  # fmt: skip
@settings(max_examples=60)
def test_counts_add_up(drawn):
    rows, told = scored(*[
        (case_of(partition), Proposal(text, sure, margin=margin)) for partition, text, sure, margin in drawn
    ])  # fmt: skip
    assert sum(told["decisions"].values()) == len(rows)
    for kind, count in told["decisions"].items():
        assert sum(each[kind] for each in told["by_partition"].values()) == count
    assert sum(told["refused"].values()) == told["decisions"]["reject"]
    assert sum(row["accepted"] for row in rows) == told["decisions"]["accept"]
    for row in rows:
        # a rejected row has a reason; what is not accepted keeps the input's edits
        assert bool(row["reasons"]) == (row["decision"] == "reject")
        assert row["accepted"] or row["edits_after"] == row["edits_before"]
        assert row["admissible"] == (row["decision"] == "accept" or (
            row["decision"] == "keep" and row["partition"] != "novelty"))  # fmt: skip
    worst = max(told["reasons"].values(), default=0)
    assert worst <= told["decisions"]["reject"]
    assert json.loads(json.dumps(told)) == told


def test_a_base_is_held_against_the_same_rules():
    scorer = GateScorer(BOOK)
    row = scorer.judge(case_of(), Proposal(BETTER, **SURE), Proposal(BETTER))
    assert (row["proposal_base"], row["edits_base"]["codepoint"]) == (TEXT, 1)  # the base was not sure
    row = scorer.judge(case_of(), Proposal(BETTER, **SURE), Proposal(BETTER, **SURE))
    assert (row["proposal_base"], row["edits_base"]["codepoint"]) == (BETTER, 0)
    assert len(scorer.verdicts) == 2  # of the engine alone

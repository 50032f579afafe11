"""Decisions: what a row says as evidence, what a record holds, what a token binds, batches that are stopped."""

from __future__ import annotations

import json

import pytest

from thunder import digest
from thunder.bridge import proposers
from thunder.bridge.bridge_settings import BridgeSettings
from thunder.bridge.decisions import ProposalDecider, gate_evidence
from thunder.bridge.gate import gate_rules
from thunder.bridge.proof import admissibility, keys
from thunder.errors import UsageError
from thunder.evaluation import cases
from thunder.evaluation.engines import FileEngine, IdentityEngine, Proposal
from thunder.text.chat import correction_prompt

BOOK = gate_rules.read_gate_rules()
TEXT, BETTER = "ߣߋߤߍߛߍ ߡߌ ߓ", "ߣߋߛߍߛߍ ߡߌ ߓ"
GOOD = Proposal(BETTER, -0.05, margin=0.2)


class Told(IdentityEngine):
    """An engine that says what it is."""

    def describe(self):
        return {"engine": "model", "base_sha256": "b" * 64, "adapter_sha256": "a" * 64, "window": 6}


def decider(**options):
    return ProposalDecider(Told(), BOOK, keys.DEV_RING, clock=lambda: 1_790_000_000.25, **options)


def case(row_id="r1", **fields):
    return cases.case_from_text(row_id, TEXT, fields)


def test_the_record_and_the_token_say_the_same():
    made = decider().decide(case(partition="uncertain"), GOOD, "q1")
    claims = admissibility.verify_token(made.token, keys.DEV_RING, {}, allow_dev=True).claims
    record = made.record
    assert all(record[name] == value for name, value in vars(claims).items() if name not in ("v", "kid", "iat"))
    assert (claims.base_digest, claims.adapter_digest, claims.iat) == ("b" * 64, "a" * 64, 1_790_000_000)
    assert claims.decode_digest == digest.sha256_json(Told().describe())
    assert claims.prompt_digest == digest.sha256_json([{"role": "user", "content": correction_prompt(TEXT)}])
    assert (claims.edits, claims.ratio_e6, claims.conf_e6, record["margin_e6"]) == (1, 90_909, 951_229, 200_000)
    assert (record["time_ms"], record["request_id"], record["kind"]) == (1_790_000_000_250, "q1", "decision")
    assert not any(isinstance(value, float) for value in record.values())
    assert json.loads(digest.canonical_json(record)) == record


def test_every_decision_has_an_id_of_its_own():
    maker = decider()
    assert len({maker.decide(case(), GOOD).record["rid"] for _ in range(50)}) == 50


def test_texts_stay_out_of_the_record_on_request():
    record = decider(texts=False).decide(case(partition="uncertain"), GOOD).record
    assert not {"input", "proposal", "output"} & record.keys()
    assert TEXT not in json.dumps(record, ensure_ascii=False)
    assert record["output_sha256"] == admissibility.text_digest(BETTER)


UNSURE = {"partition": "uncertain"}
SCALARS = {"novelty": 0.1, "uncertainty": 0.7, "transition_pressure": 0, "commitment": 1}


@pytest.mark.parametrize("fields, decision", [
    (UNSURE, "accept"), ({"partition": 5}, "reject"), ({"partition": None}, "reject"), ({}, "reject"),
    (UNSURE | {"script": 5}, "accept"), (UNSURE | {"script": "latin"}, "reject"),
    (UNSURE | {"spans": [[2, 3]]}, "accept"), (UNSURE | {"spans": [[5, 6]]}, "reject"),
    (UNSURE | {"spans": [[2, 3], [1]]}, "reject"), (UNSURE | {"spans": "2-3"}, "reject"),
    (UNSURE | {"spans": [[2, True]]}, "reject"), (UNSURE | {"spans": []}, "reject"),
    ({"trajectory_scalars": SCALARS}, "accept"), ({"trajectory_scalars": "much"}, "reject"),
])  # fmt: skip
def test_what_a_row_says_is_taken_for_what_it_is_and_else_for_nothing(fields, decision):
    made = decider().decide(case(**fields), GOOD)
    assert made.verdict.decision == decision
    assert (made.token is None) == (decision == "reject")


def test_a_partition_that_is_no_text_is_a_strange_one():
    assert gate_evidence(case(partition=5), GOOD).partition == "5"
    assert decider().decide(case(partition=5), GOOD).verdict.partition_source == "unknown"


def test_a_batch_is_stopped_as_a_whole_and_says_so_in_every_record():
    cases = [case(f"r{number}", partition="uncertain") for number in range(20)]
    made, why = decider().decide_batch(cases, [GOOD] * 20, "q")
    assert "20 of 20" in why and not any(each.token for each in made)
    assert all(each.record["reasons"][-1] == ["breaker", why] for each in made)
    assert {(each.record["output"], each.record["decision"]) for each in made} == {(TEXT, "reject")}
    made, why = decider().decide_batch(cases[:19], [GOOD] * 19, "q")
    assert why is None and all(each.token for each in made)


def test_engines_by_name(tmp_path):
    assert isinstance(proposers.load_proposer(BridgeSettings(engine="identity")), IdentityEngine)
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "r1", "proposal": "x", "confidence": -0.1, "margin": 0.3}\n')
    engine = proposers.load_proposer(BridgeSettings(engine=f"file:{path}"))
    assert isinstance(engine, FileEngine)
    [known, unknown] = engine.propose([case("r1"), case("r2")])
    assert (known.text, known.confidence, known.margin, known.accepted) == ("x", -0.1, 0.3, True)
    assert (unknown.text, unknown.accepted) == (TEXT, False)
    for name in ("oracle", "model", "file", "file:", "identity:x", "mlx:x", ""):
        with pytest.raises(UsageError, match="no such engine"):
            proposers.check_engine_options(BridgeSettings(engine=name))

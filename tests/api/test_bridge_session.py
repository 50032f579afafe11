"""The bridge from Python: one text, several, rows; decisions as the command writes them; the log."""

from __future__ import annotations

import json

import pytest

from thunder import Bridge, BridgeBatch, BridgeDecision
from thunder.errors import UsageError

TEXT = "ߒ ߓߍ߫ ߕߊ߯ ߛߎ߯"


@pytest.fixture
def options(tmp_path):
    return {"engine": "identity", "dev_key": True, "log": str(tmp_path / "log.jsonl")}


def test_one_text_is_one_decision_and_one_record(options, tmp_path):
    with Bridge(**options) as bridge:
        decision = bridge.propose(TEXT)
    assert isinstance(decision, BridgeDecision)
    assert (decision.recognized, decision.proposal, decision.text) == (TEXT, TEXT, TEXT)
    assert decision.admissible == (decision.token is not None)
    (record,) = map(json.loads, (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines())
    assert decision.provenance_id in json.dumps(record)


def test_several_texts_and_rows_are_one_batch_in_their_order(options):
    with Bridge(**options) as bridge:
        batch = bridge.propose([TEXT, {"asr_text": "ߛߎ߯", "id": "b"}, {"asr_text": "ߓߍ߫", "feat_id": "c"}])
        nothing = bridge.propose([])
    assert isinstance(batch, BridgeBatch) and nothing.decisions == ()
    assert [each.id for each in batch.decisions] == ["0", "b", "c"]
    assert [each.recognized for each in batch.decisions] == [TEXT, "ߛߎ߯", "ߓߍ߫"]


def test_a_file_of_proposals_answers_its_rows(options, tmp_path):
    (tmp_path / "proposals.jsonl").write_text(json.dumps({"id": "a", "proposal": "ߕߊ߯"}) + "\n", encoding="utf-8")
    with Bridge(**options | {"engine": f"file:{tmp_path / 'proposals.jsonl'}"}) as bridge:
        batch = bridge.propose([{"asr_text": "ߕߊ߫", "id": "a"}])
    assert batch.decisions[0].proposal == "ߕߊ߯"


def test_mistakes_are_found_before_anything_is_opened(options, tmp_path):
    with pytest.raises(UsageError, match="no such engine"):
        Bridge(**options | {"engine": "oracle"})
    with pytest.raises(UsageError, match="Python: unknown key 'adapter_pth'. Did you mean 'adapter_path'"):
        Bridge(**options, adapter_pth="x")
    assert not (tmp_path / "log.jsonl").exists()


def test_a_proposer_that_cannot_be_loaded_lets_go_of_the_log(options, tmp_path):
    for _ in range(2):
        bridge = Bridge(**options | {"engine": f"file:{tmp_path / 'none.jsonl'}"})
        with pytest.raises(UsageError, match="none.jsonl"), bridge:
            pass
    with Bridge(**options) as bridge:
        assert bridge.propose(TEXT).recognized == TEXT


def test_a_bridge_that_is_not_open_and_a_row_without_a_text_are_refused(options):
    bridge = Bridge(**options)
    with pytest.raises(UsageError, match="the bridge is not open"):
        bridge.propose(TEXT)
    with bridge, pytest.raises(UsageError, match="row 1: no 'asr_text', only 'text', 'id'"):
        bridge.propose([TEXT, {"text": TEXT, "id": "b"}])
    with pytest.raises(UsageError, match="the bridge is not open"):
        bridge.propose(TEXT)

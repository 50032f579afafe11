"""An engine for the bridge is ready for any row: what prompts begin with has been read."""

import json

import pytest

from thunder.bridge import proposers
from thunder.bridge.bridge_settings import BridgeSettings
from thunder.config import REPOSITORY
from thunder.evaluation import cases
from thunder.text.chat import CORRECTION_INSTRUCTION


@pytest.mark.expensive
def test_the_engine_has_read_what_every_prompt_begins_with():
    engine = proposers.load_proposer(BridgeSettings())
    read = engine.prefix.tokens
    assert CORRECTION_INSTRUCTION in engine.prompts.tokenizer.decode(read)
    lines = (REPOSITORY / "data/sample/test.jsonl").read_text(encoding="utf-8").splitlines()
    some = [cases.case_from_text(str(place), json.loads(line)["asr_text"], {}) for place, line in enumerate(lines[:5])]
    for case in some:
        assert engine.prompts.prompt(case.messages).ids[: len(read)] == read
    list(engine.propose(some[:2]))
    assert engine.prefix.tokens is read

"""The page of a provenance log: as far as the chain holds, texts only where they are those that were decided on."""

from __future__ import annotations

import pytest
from conftest import write_rows
from pages import read_page, rendered

from thunder.bridge.proof.admissibility import text_digest
from thunder.bridge.proof.keys import DEV_RING
from thunder.bridge.proof.provenance import ProvenanceLog
from thunder.errors import ArtifactError, UsageError
from thunder.report.pages import log_page

REFERENCES = {"a": "ߊߋߌ", "b": "ߞߊ", "c": "ߡߊ"}


def record(row_id, asr_text, proposal, decision, partition="stable", reasons=(), texts=True):
    """As the bridge writes one down."""
    output = proposal if decision == "accept" else asr_text
    said = {"input": asr_text, "proposal": proposal, "output": output}
    digests = {f"{name}_sha256": text_digest(text) for name, text in said.items()}
    more = {"partition": partition, "script": "nko", "reasons": [list(each) for each in reasons], "rules_id": "v1+abc"}
    found = {"kind": "decision", "row_id": row_id, "decision": decision, "base_digest": "f" * 64, **digests, **more}
    return found | (said if texts else {})


RECORDS = [
    record("a", "ߊߋ", "ߊߋߌ", "accept", "boundary"),
    record("b", "ߞߊ", "ߞߋߡ", "reject", reasons=[("edits", "2 > 0"), ("ratio", "1 > 0")]),
    record("c", "ߡߊ߬", "ߡߊ߬", "keep", "novelty"),
]


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "provenance.jsonl"
    with ProvenanceLog(path, DEV_RING) as written:
        written.append(RECORDS)
    return path


@pytest.fixture
def rows(tmp_path):
    texts = {each["row_id"]: each["input"] for each in RECORDS}
    found = [{"id": key, "asr_text": texts[key], "reference_text": REFERENCES[key]} for key in texts]
    return write_rows(tmp_path / "rows.jsonl", found)


def section(page, name):
    return next(each for each in page.sections if each.name == name)


def test_digests_are_short_and_those_of_a_thousand_prompts_are_no_wall(log):
    made = [each | {"prompt_digest": f"{number:064x}", "rules_id": "agp_rules_v1@" + "e" * 64}
            for number, each in enumerate(RECORDS * 7)]  # fmt: skip
    facts = dict(log_page.build_log_page("log", made, {}).facts)
    assert facts["prompt digest"] == "000000000000, 000000000000, 000000000000, and 18 more"
    assert facts["rules id"] == "agp_rules_v1@" + "e" * 12


def test_decisions_and_reasons(log):
    page = log_page.read_log_page(log)
    assert page.cards == [("1", "accept"), ("1", "reject"), ("1", "keep")]
    assert section(page, "decisions").table.lines == [
        ["stable", "0", "1", "0"], ["boundary", "1", "0", "0"], ["novelty", "0", "0", "1"]
    ]  # fmt: skip
    assert section(page, "reasons").table.lines == [["edits", "1"], ["ratio", "1"]]
    assert page.rows[1].reasons == ["edits", "ratio"] and page.rows[1].details[0] == "edits: 2 > 0"
    assert [row.outcome for row in page.rows] == ["no reference"] * 3
    assert page.rows[0].lines[1].segments == ["ߊߋ", ["+", "ߌ"]]
    assert page.facts[0][1].startswith("ok, 3 lines") and ("rules id", "v1+abc") in page.facts
    assert page.absent == ["no record has a reference: no CER and no confusions (--rows FILE gives them)"]
    assert len(read_page(rendered(page)).rows) == 3


def test_with_references_beside_it(log, rows):
    page = log_page.read_log_page(log, rows)
    assert page.absent == []
    assert [(row.outcome, row.before, row.after) for row in page.rows] == [
        ("improved", 1, 0), ("unchanged", 0, 0), ("unchanged", 1, 1)
    ]  # fmt: skip
    assert {"partition", "confusions"} <= {each.name for each in page.sections}
    assert ("1 / 0 / 0", "improved / neutral / worse") in page.cards


def test_texts_that_were_not_decided_on_are_not_compared(log, tmp_path):
    rows = write_rows(tmp_path / "r.jsonl", [{"id": "a", "asr_text": "ߊ", "reference_text": "ߊߋߌ"}])
    page = log_page.read_log_page(log, rows)
    assert "than was decided on, in 1 of them (a)" in page.absent[0]
    assert page.rows[0].outcome == "no reference"


def test_a_log_of_digests_alone(tmp_path, rows):
    path = tmp_path / "p.jsonl"
    with ProvenanceLog(path, DEV_RING) as written:
        written.append([record(each["row_id"], each["input"], each["proposal"], each["decision"], texts=False)
                        for each in RECORDS])  # fmt: skip
    page = log_page.read_log_page(path)
    assert page.absent[0].startswith("3 of 3 records have digests and no texts") and page.rows[0].lines == []
    beside = log_page.read_log_page(path, rows)
    assert [line.of for line in beside.rows[0].lines] == ["reference", "recognized"]
    # what went on is known where it is what came in
    assert [row.outcome for row in beside.rows] == ["no reference", "unchanged", "unchanged"]
    read_page(rendered(beside))


def test_nothing_after_a_broken_link_is_shown(log):
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + lines[1].replace(b'"reject"', b'"accept"') + lines[2])
    page = log_page.read_log_page(log)
    assert len(page.rows) == 1 and "chain_broken@2" in page.absent[0]
    assert page.facts[0][1].startswith("chain_broken@2")


def test_a_torn_end_is_named(log):
    data = log.read_bytes()
    log.write_bytes(data[:-10])
    page = log_page.read_log_page(log)
    assert len(page.rows) == 2 and "torn@3" in page.absent[0]
    with ProvenanceLog(log, DEV_RING):
        pass
    assert any("a line was cut off once" in each for each in log_page.read_log_page(log).absent)


def test_what_is_no_log(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("{}\n")
    with pytest.raises(UsageError, match="chain_broken@1"):
        log_page.read_log_page(path)
    with pytest.raises(ArtifactError):
        log_page.read_log_page(tmp_path / "none.jsonl")

"""Engines without a model; a file of proposals is read strictly."""

from __future__ import annotations

import json

import pytest

from thunder.corpora.rows.chat_rows import ChatRow
from thunder.errors import CorpusError
from thunder.evaluation import cases
from thunder.evaluation.engines import FileEngine, IdentityEngine, OracleEngine, Proposal
from thunder.text.chat import correction_messages

CASES = [
    cases.case_from_row(ChatRow(tuple(correction_messages(text, wanted)), f"f:{place}", f"id{place}"), place)
    for place, (text, wanted) in enumerate([("ߊ", "ߋ"), ("ߌ", "ߌ"), ("ߍ", "ߎ")])
]
IDS = frozenset(case.row_id for case in CASES)


def texts(engine):
    return [proposal.text for proposal in engine.propose(CASES)]


def file(tmp_path, *lines):
    path = tmp_path / "p.jsonl"
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(encoded) + b"\n")
    return path


def said(tmp_path, *lines):
    with pytest.raises(CorpusError) as error:
        FileEngine(file(tmp_path, *lines), IDS)
    return error.value.message


def test_identity_and_oracle():
    assert texts(IdentityEngine()) == ["ߊ", "ߌ", "ߍ"]
    assert texts(OracleEngine()) == ["ߋ", "ߌ", "ߎ"]


def test_proposals_go_by_id_not_by_order(tmp_path):
    path = file(tmp_path, {"id": "id2", "prediction": "c"}, {"feat_id": "id0", "proposal": "a", "confidence": -0.5},
                b"", {"row_id": "id1", "prediction_after": "b"})  # fmt: skip
    assert texts(FileEngine(path, IDS)) == ["a", "b", "c"]
    assert next(FileEngine(path, IDS).propose(CASES)) == Proposal("a", -0.5)


def test_bom_and_line_ends_of_windows(tmp_path):
    path = tmp_path / "p.jsonl"
    lines = [json.dumps({"id": f"id{place}", "proposal": "x"}) for place in range(3)]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert texts(FileEngine(path, IDS)) == ["x"] * 3


def test_a_proposal_that_a_gate_refused_leaves_the_input(tmp_path):
    path = file(tmp_path, {"id": "id0", "proposal": None}, {"id": "id1", "proposal": "b", "accepted": False},
                {"id": "id2", "proposal": "c", "accepted": True})  # fmt: skip
    got = list(FileEngine(path, IDS).propose(CASES))
    assert got == [Proposal("ߊ", accepted=False), Proposal("b", accepted=False), Proposal("c")]


def test_missing_twice_and_unknown_ids_are_named_together(tmp_path):
    message = said(
        tmp_path, {"id": "id0", "proposal": "a"}, {"id": "id0", "proposal": "b"}, {"id": "x", "proposal": ""}
    )
    assert "id 'id0' occurs 2 times" in message
    assert "no row has the id 'x'" in message
    assert "no proposal for id 'id1'" in message and "no proposal for id 'id2'" in message


@pytest.mark.parametrize("line, fault", [
    (b'{"id": "id0", "prop', "not JSON"), (b"[1]", "not an object"), (b"\xff", "not JSON"),
    ({"id": "id0"}, "no proposal: none of proposal"), ({"id": "id0", "proposal": 3}, "'proposal' is not a text"),
    ({"id": "id0", "proposal": "\ud800"}, "half of a surrogate pair"),
    ({"id": "id0", "proposal": "a", "accepted": 1}, "'accepted' is neither"),
    ({"id": "id0", "proposal": "a", "confidence": True}, "'confidence' is not a finite number"),
    (b'{"id": "id0", "proposal": "a", "confidence": NaN}', "'confidence' is not a finite number"),
    (b'{"id": "id0", "proposal": "a", "margin": -1e999}', "'margin' is not a finite number"),
    (b'{"id": "id0", "proposal": "a", "margin": 1%s}' % (b"0" * 400), "'margin' is not a finite number"),
    ({"id": "id0", "proposal": "a", "confidence": 0.95}, "'confidence' is 0.95; a mean log-probability"),
])  # fmt: skip
def test_lines_that_cannot_be_used_are_named(tmp_path, line, fault):
    message = said(tmp_path, {"id": "id1", "proposal": "a"}, line, {"id": "id2", "proposal": "a"})
    assert "p.jsonl:2: " in message and fault in message


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(CorpusError, match="No such file"):
        FileEngine(tmp_path / "none.jsonl", IDS)


def test_other_proposals_have_another_fingerprint(tmp_path):
    fingerprints = []
    for text in ("a", "b"):
        lines = [{"id": row_id, "proposal": text} for row_id in sorted(IDS)]
        fingerprints.append(FileEngine(file(tmp_path, *lines), IDS).describe())
    assert fingerprints[0] != fingerprints[1]

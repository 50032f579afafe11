"""Sections on the gate: decisions by partition, reasons, and notes of an evaluation behind it."""

from __future__ import annotations

import pytest

from thunder.report.pages.gate_sections import decision_sections, gate_notes, reason_details, rule_names

RECORDS = [
    {"decision": "accept", "partition": "novelty", "reasons": []},
    {"decision": "reject", "partition": "stable", "reasons": [["edits", "2 > 0"], ["ratio", "1 > 0"], ["edits", "x"]]},
    {"decision": "reject", "partition": "stable", "reasons": [["edits", "9 > 0"]]},
    {"decision": "strange"},
]


def test_decisions_by_partition_and_reasons_once_a_decision():
    decisions, reasons = decision_sections(RECORDS, ["a note"])
    assert decisions.notes == ["a note"] and list(decisions.table.head) == ["", "accept", "reject", "keep", "strange"]
    assert decisions.table.lines == [
        ["stable", "0", "2", "0", "0"], ["novelty", "1", "0", "0", "0"], ["unknown", "0", "0", "0", "1"]
    ]  # fmt: skip
    assert reasons.table.lines == [["edits", "2"], ["ratio", "1"]]
    assert [part.name for part in decision_sections(RECORDS[:1])] == ["decisions"]


@pytest.mark.parametrize("reasons, names, details", [
    ([["edits", "2 > 0"], ["ratio", 1, 2]], ["edits", "ratio"], ["edits: 2 > 0", "ratio: 1: 2"]),
    ([[], "edits", None, ["loop"]], ["loop"], ["loop"]),
    ("edits", [], []), (None, [], []),
])  # fmt: skip
def test_reasons_that_are_damaged_are_left_out(reasons, names, details):
    record = {"reasons": reasons}
    assert (rule_names(record), reason_details(record)) == (names, details)


def test_notes_of_an_evaluation_behind_the_gate():
    gate = {"refused": {"improved": 3, "worse": 0}, "breaker": "too many changes"}
    assert gate_notes(gate) == [
        "Had the rejected proposals been taken: 3 improved, 0 worse.",
        "As one batch the rows would have been stopped: too many changes.",
    ]
    assert gate_notes({"refused": {"improved": 0}}) == gate_notes({}) == []

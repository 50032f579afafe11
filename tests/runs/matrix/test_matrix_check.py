"""Checks of a matrix: the published hole, and each rule by itself."""

from __future__ import annotations

import copy
import json

import pytest
from planted_matrix import CLAIM, COMPARISON, DEFINITIONS, FINE, SAFE, fine

from thunder.cli.commands.records.matrix import resolve
from thunder.cli.main import main
from thunder.runs.matrix import matrix_check, matrix_spec
from thunder.runs.matrix.matrix_spec import Matrix
from thunder.runs.records import spec_file


def found(plan, definitions=DEFINITIONS):
    return [(one.rule, one.said, one.proposal) for one in matrix_check.check_matrix(plan, resolve, definitions)]


def test_the_published_hole_is_found_before_anything_is_run(capsys):
    assert main(["matrix", "check", str(SAFE)]) == 3
    said = capsys.readouterr().err
    assert "learning_rate (0.0003 vs 0.0001), patience (10 vs 8)" in said.replace("mode.ttt (no vs yes), ", "")
    assert "to fix: add nko_trajectory_290596: " in said
    assert main(["matrix", "check", str(SAFE), "--json"]) == 3
    (one,) = json.loads(capsys.readouterr().out)
    plan = json.loads(SAFE.read_text())
    plan["runs"].append(one["proposal"])
    plan["comparisons"][0]["a"] = one["proposal"]["id"]
    assert found(spec_file.validate_spec(Matrix, plan, "mended"), "") == [], "with what is proposed, the rule holds"


def test_a_fine_matrix():
    assert found(fine()) == []
    assert matrix_check.estimated_hours(fine()) == 18
    assert [cell.id for cell in matrix_spec.matrix_cells(fine())][:4] == ["plain-s1", "plain-s2", "plain-s3", "traj-s1"]


def runs(*changes):
    made = copy.deepcopy(FINE["runs"])
    for number, change in changes:
        made[number] |= change
    return made


@pytest.mark.parametrize("changes, rule, said", [
    ({"runs": runs((1, {"id": "plain"}))}, "names", "run 'plain' occurs 2 times"),
    ({"runs": runs((2, {"flags": {}}))}, "names", "'traj-s1' and 'slow-s1' are the same run"),
    ({"runs": runs((1, {"mode": "trajektory"}))}, "options", "'trajektory' is no mode"),
    ({"runs": runs((1, {"script": "arabic"}))}, "options", "'script'"),
    ({"runs": runs((1, {"flags": {"droput": 0.1}}))}, "options", "Did you mean 'dropout'?"),
    ({"snapshot": FINE["snapshot"] | {"rows": 44}}, "split", "= 43, not its 44 rows"),
    ({"runs": runs((1, {"flags": {"dropout": 0.3}}))}, "one factor", "differ in mode.trajectory (no vs yes), dropout"),
    ({"runs": runs((1, {"mode": "trajectory+ttt"}))}, "one factor", "differ in mode.trajectory (no vs yes), mode.ttt"),
    ({"comparisons": [COMPARISON | {"factor": "dropout"}]}, "one factor", "do not differ in dropout"),
    ({"comparisons": [COMPARISON | {"b": "gone"}]}, "ends", "there is no run 'gone'"),
    ({"claims": [{"text": "x", "comparison": "nothing"}]}, "claims", "no comparison 'nothing'"),
    ({"runs": runs((1, {"seeds": [1, 2]}))}, "seeds", "share 2 seeds, expected 3"),
    ({"claims": [CLAIM], "runs": runs((0, {"seeds": [1]}))}, "seeds", "'lower' needs 3"),
    ({"budget": {"hours": 17}}, "budget", "18 hours are estimated"),
    ({"budget": {"usd": 8.5}}, "budget", "9.00 USD"),
    ({"estimate": {}}, "budget", "no estimate"),
])  # fmt: skip
def test_rules_one_by_one(changes, rule, said):
    assert any(one == rule and said in text for one, text, _ in found(fine(**changes))), found(fine(**changes))


def test_a_word_without_a_definition():
    assert [rule for rule, _, _ in found(fine(), None)] == ["definitions"]
    assert [rule for rule, _, _ in found(fine(), "a trajectoryless text")] == ["definitions"]

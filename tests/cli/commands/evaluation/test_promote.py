"""`thunder promote`: a line for each criterion, the decision in a file beside the claim, and exit code 3."""

from __future__ import annotations

import json

import planted_runs
import pytest

from thunder.cli.main import main


@pytest.fixture
def claim(tmp_path, monkeypatch):
    """A comparison of two unsealed runs that lie beside the claim."""
    monkeypatch.setenv("THUNDER_RUNS", str(tmp_path / "runs"))
    planted_runs.recognizer_run(tmp_path, "plain")
    planted_runs.recognizer_run(tmp_path, "treated", seed=43)
    content = {"id": "c1", "kind": "comparison", "text": "x", "control": ["plain"], "runs": ["treated"],
               "factor": "mode"}  # fmt: skip
    (tmp_path / "c1.json").write_text(json.dumps(content))
    return tmp_path / "c1.json"


def test_json_and_lines_have_the_same_criteria_and_exit_code(claim, capsys):
    assert main(["promote", "--claim", str(claim), "--json"]) == 3
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((claim.parent / "c1.promotion.json").read_text())
    assert printed["decision"].startswith("not promoted: ")
    assert main(["promote", "--claim", str(claim)]) == 3
    output = capsys.readouterr()
    lines = output.out.splitlines()
    expected = [f"{'holds' if one['holds'] else 'FAILS':6} {one['name']:15} {one['said']}"
                for one in printed["criteria"]]  # fmt: skip
    assert lines[: len(expected)] == expected and lines[len(expected)] == printed["decision"]
    failed = ", ".join(one["name"] for one in printed["criteria"] if not one["holds"])
    assert "sealed" in failed and f"correct these criteria: {failed}" in output.err


def test_a_run_that_is_not_there_is_a_mistake_of_use(claim, capsys):
    claim.write_text(claim.read_text().replace("treated", "nowhere"))
    assert main(["promote", "--claim", str(claim)]) == 2
    assert "nowhere" in capsys.readouterr().err and not (claim.parent / "c1.promotion.json").exists()

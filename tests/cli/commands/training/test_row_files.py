"""Every file of rows that people hand in is read, or named in one message with the fix, by the check and the plan."""

from __future__ import annotations

import json

import pytest
from row_files import CASES

from thunder.cli.main import main

# of the division into parts, which the plan alone makes
PLAN_ONLY = ("'split'", "held out", "no validation rows", "as if it were not", "not used", "speaker_id")


@pytest.fixture
def check(tmp_path, capsys):
    """Write the case's file; return a function that runs a command on it: (exit code, output, errors)."""

    def run(case, *command):
        case.write(tmp_path)
        path = tmp_path / case.name
        options = ["--data" if path.is_dir() else "--train-data"] if command[0] == "train" else []
        code = main([*command, *options, str(path)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def refused(case, code, errors):
    """One message names the file, the reason and the fix."""
    text = " ".join(errors.split())
    assert code == 2 and all(words in text for words in case.said), errors
    assert case.name in text and "fix" in text.lower() and case.fix in text, errors
    assert text.count(f"{case.name}:") + text.count(f"{case.name} cannot") <= case.lines, errors


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_plan_says_what_is_made_of_a_file(case, check):
    code, out, errors = check(
        case, "train", "--dry-run", "--json", "--iters", "4", "--ranks", "1", "--max-epochs", "99"
    )
    if case.rows is None:
        return refused(case, code, errors)
    assert code == 0, errors
    data = json.loads(out)["data"]
    assert (data["valid"]["rows"], data["test_rows"]) == case.held
    assert data["train"]["rows"] + sum(case.held) == case.rows
    notes = " ".join(data["notes"])
    assert all(words in notes for words in case.said), data["notes"]


@pytest.mark.parametrize(
    "case", [case for case in CASES if "." in case.name and case.name != "alltest.jsonl"], ids=lambda case: case.name
)
def test_corpus_validate_says_what_is_in_a_file(case, check):
    code, out, errors = check(case, "corpus", "validate")
    if case.rows is None:
        return refused(case, code, errors)
    assert code == 0, errors
    assert f"{case.rows} rows" in out
    said = [words for words in case.said if not any(mark in words for mark in PLAN_ONLY) or "fields not" in words]
    assert all(words in out for words in said), out

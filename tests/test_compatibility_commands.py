"""Commands over artifacts of version 0.1.0 end as they did then, and their JSON has every key that it had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from serialized_keys import keys_of_value, missing_keys
from version_artifacts import HERE, RENAMED, expected, lay_out

from thunder.cli.main import main


@pytest.fixture(scope="module", autouse=True)
def shared_workspace(tmp_path_factory):
    """One copy for all tests of this file: the commands read, and write nothing that another one looks at."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield lay_out(tmp_path_factory.mktemp("version-0.1.0"), monkeypatch)


def parsed(text: str) -> Any:
    """JSON, or JSON lines, that a command printed."""
    try:
        return json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("before", expected("commands.json"), ids=lambda each: " ".join(each["command"]))
def test_a_command_ends_as_it_did_and_says_all_that_it_said(before, capsys):
    code = main(before["command"])
    printed = capsys.readouterr()
    assert code == before["exit_code"], printed.err
    assert missing_keys(before["keys"], keys_of_value(parsed(printed.out)), RENAMED) == []


def answer(capsys, *words: str) -> Any:
    main(list(words))
    return parsed(capsys.readouterr().out)


def test_verdicts_are_what_they_were(capsys):
    drift = answer(capsys, "drift", "modes.plain", "modes.traj", "--allow", "mode", "--json")
    assert drift["verdict"] == "comparable_with_warnings"
    assert answer(capsys, "memcheck", "modes.traj", "--json")["verdict"] == "healthy"
    runs = ["--control", "runs/modes.plain", "--treated", "runs/modes.traj"]
    hypothesis = answer(capsys, "hypothesis", "eval", f"{HERE}/hypothesis.json", *runs, "--json")
    assert hypothesis["verdict"] == "it helps" and hypothesis["x"] == pytest.approx(-0.2857142857142857)
    promotion = answer(capsys, "promote", "--claim", f"{HERE}/claim.json", "--json")
    assert {one["name"]: one["holds"] for one in promotion["criteria"]} == {
        "sealed": True, "memcheck": True, "untainted": True, "audit": True, "comparable": True, "seeds": False,
        "difference": False, "hypothesis": True, "tables": True,
    }  # fmt: skip


def test_what_was_signed_still_verifies(capsys):
    """Tokens and records name the gate's rules by the digest of their file, so a changed file is another id."""
    decided = [json.loads(line) for line in (Path(HERE) / "agp" / "decided.jsonl").read_text().splitlines()]
    signed = [row for row in decided if row["token"]]
    assert len(signed) == 2
    for row in signed:
        texts = ["--input", row["asr_text"], "--output", row["final_text"], "--log", f"{HERE}/agp/provenance.jsonl"]
        assert main(["agp", "verify", "--token", row["token"], *texts]) == 0
        assert main(["agp", "verify", "--token", row["token"], "--input", row["asr_text"] + "x"]) == 4
    capsys.readouterr()
    assert main(["agp", "verify", "--log", f"{HERE}/transcription/provenance.jsonl"]) == 0


def test_a_log_of_decisions_and_evaluations_are_reported():
    assert main(["agp", "report", f"{HERE}/agp/provenance.jsonl", "--out", "log.html"]) == 0
    for folder in ("evaluation", "gate_evaluation"):
        assert main(["report", f"{HERE}/{folder}", "--out", f"{folder}.html"]) == 0
    assert all(Path(name).stat().st_size > 1000 for name in ("log.html", "evaluation.html", "gate_evaluation.html"))

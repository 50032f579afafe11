"""The examples of the how-to guides on experiments are what the commands read, and every command's help opens."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from thunder.cli.main import main
from thunder.config import REPOSITORY
from thunder.evaluation.claims.promotion import PublicationClaim
from thunder.runs.hypotheses import frozen_hypothesis
from thunder.runs.records import spec_file

NAMES = ("run-a-matrix", "test-a-hypothesis", "promote-a-claim")
GUIDES = [REPOSITORY / "docs" / "how-to" / f"{name}.md" for name in NAMES]
EXAMPLES = [
    json.loads(text)
    for guide in GUIDES
    for text in re.findall(r"```json\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
]


def written(tmp_path, key) -> Path:
    (one,) = [each for each in EXAMPLES if key in each]
    (tmp_path / "example.json").write_text(json.dumps(one))
    return tmp_path / "example.json"


@pytest.mark.parametrize("file", sorted((REPOSITORY / "configs" / "matrices").glob("*")), ids=lambda file: file.name)
def test_a_matrix_that_is_shipped_is_fine(file, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert main(["matrix", "check", str(file)]) == 0


def test_the_matrix_of_the_guide_is_fine(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    assert main(["matrix", "check", str(written(tmp_path, "regime"))]) == 0
    assert "9 runs, 2 comparisons, no findings" in capsys.readouterr().out


def test_the_hypothesis_and_the_claim_of_the_guide_can_be_read(tmp_path):
    assert frozen_hypothesis.read_hypothesis(written(tmp_path, "treatment")).metric == "test.cer"
    assert spec_file.read_spec(PublicationClaim, written(tmp_path, "control")).kind == "comparison"


@pytest.mark.parametrize("words", [
    ["memcheck"], ["promote"], ["matrix"], ["hypothesis"], ["gpu"], ["vast"],
    *(["matrix", each] for each in ("check", "plan", "run", "status", "resume")),
    *(["gpu", each] for each in ("plan", "search", "launch", "watch", "sync", "destroy")),
    ["hypothesis", "freeze"], ["hypothesis", "eval"],
], ids=" ".join)  # fmt: skip
def test_help(words, capsys):
    assert main([*words, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_a_matrix_that_names_the_old_page_of_definitions_is_fine(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    file = written(tmp_path, "regime")
    file.write_text(file.read_text().replace("docs/explanation/modes.md", "docs/modes.md"))
    assert main(["matrix", "check", str(file)]) == 0

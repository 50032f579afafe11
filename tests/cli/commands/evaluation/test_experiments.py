"""The examples of the how-to guides on experiments are what the commands read, and every command's help opens."""

from __future__ import annotations

import pytest
from guide_examples import written

from thunder.cli.main import main
from thunder.evaluation.claims.promotion import PublicationClaim
from thunder.runs.hypotheses import frozen_hypothesis
from thunder.runs.records import spec_file


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

"""What is wrong with a proposal by name."""

from __future__ import annotations

import pytest

from thunder.evaluation.engines import Proposal
from thunder.evaluation.metrics import proposal_flags
from thunder.text.chat import correction_prompt

TEXT = "ߊ߬ ߞߊ߬ ߕߊ߯ ߛߏ ߡߐ߱ ߓߘߊ߫ ߣߊ߬ ߟߊ߫ ߦߋ߫"


@pytest.mark.parametrize(
    "proposal, names",
    [
        (Proposal(TEXT), []),
        (Proposal(TEXT[:-2]), []),
        (Proposal(""), ["empty", "rewritten"]),
        (Proposal(" \n"), ["empty", "rewritten"]),
        (Proposal("", special_only=True), ["empty", "pad_only", "rewritten"]),
        (Proposal("<pad><pad> <pad>"), ["pad_only", "special_token", "rewritten"]),
        (Proposal("<pad> <eos>"), ["pad_only", "special_token", "rewritten"]),
        (Proposal(TEXT + "<|turn>"), ["special_token"]),
        (Proposal(TEXT, finished=False), ["unfinished"]),
        (Proposal(correction_prompt(TEXT)), ["prompt_echo", "longer", "rewritten"]),
        (Proposal(TEXT + " ߣߊ߬" * 4), ["loop", "longer"]),
        (Proposal("ߞߏߞߏߞߏ" + TEXT[6:]), []),
    ],
)
def test_flags(proposal, names):
    assert proposal_flags.find_flags(proposal, TEXT) == names


def test_a_loop_that_stood_in_the_input_is_not_the_engine_s():
    looped = "ߊ ߞߊ߬ߞߊ߬ߞߊ߬ߞߊ߬ߞߊ߬"
    assert proposal_flags.find_flags(Proposal(looped), looped) == []


@pytest.mark.parametrize("text, loops", [
    ("abababab", True), ("ababab", False), ("aaaaaaaa", True), ("aaaaaaa", False), ("a          b", False),
    ("sanunaminaalaminaalaminaalaminaalaminaala", True), ("", False), ("x\n" * 4, True),
])  # fmt: skip
def test_loops(text, loops):
    assert proposal_flags.has_loop(text) is loops


def test_long_text_is_searched_in_no_time():
    assert proposal_flags.has_loop("".join(chr(0x4E00 + n) for n in range(20_000))) is False

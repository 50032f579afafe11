"""Texts of N'Ko and Latin for tests of the gate, and a decision with confident evidence."""

from __future__ import annotations

import random

from thunder.bridge.gate import gate, gate_rules
from thunder.bridge.gate.gate import GateEvidence, GateVerdict
from thunder.evaluation.engines import Proposal

BOOK = gate_rules.read_gate_rules()
LETTERS = "ߊߋߌߍߎߏߐߓߔߕߖߗߘߙߛߜߝߞߟߡߢߣߤߥߦ"
SURE = {"confidence": -0.01, "margin": 1.0}


def nko(count: int, seed: int = 0) -> str:
    """N'Ko letters without any loop, in words of five."""
    draw = random.Random(seed)
    return "".join(" " if place % 6 == 5 else draw.choice(LETTERS) for place in range(count))


def changed(text: str, edits: int) -> str:
    """The text with so many letters put for others, spread over it."""
    letters = list(text)
    for place in [at for at, each in enumerate(text) if each != " "][:: max(1, len(text) // max(1, edits) - 1)][:edits]:
        letters[place] = "ߞ" if letters[place] != "ߞ" else "ߟ"
    return "".join(letters)


def decide(asked, proposal, partition="uncertain", *, script="nko", spans=None, scalars=None, **said) -> GateVerdict:
    return gate.decide_proposal(
        GateEvidence(asked, Proposal(proposal, **SURE | said), partition, script, spans, scalars), BOOK
    )


def rules_of(verdict: GateVerdict) -> set[str]:
    return {reason.rule for reason in verdict.reasons}


TEXT = nko(100)
LATIN = "o bɛ bɔ ni tere in ye k'a taa n'a ye fanwɛrɛ fɛ"

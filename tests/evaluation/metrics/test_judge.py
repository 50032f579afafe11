"""A proposal beside its reference: edits before and after, and whether the text changed."""

from __future__ import annotations

import pytest

from thunder.evaluation import cases
from thunder.evaluation.engines import Proposal
from thunder.evaluation.metrics import judge
from thunder.evaluation.metrics.judge import judge_proposal


def row(text, proposal, reference, base=None, **more):
    case = cases.Case(0, "x", text, reference, (), **more)
    return judge_proposal(case, Proposal(proposal), Proposal(base) if base is not None else None)


def test_the_order_of_marks_is_no_edit():
    assert row("ߊ߲߫", "ߊ߲߫", "ߊ߲߫")["edits_after"]["codepoint"] == 0
    assert row("ߊ߲߫", "ߊ߲߫", "ߊ߲߫")["changed"] is False


@pytest.mark.parametrize("accepted, after", [(True, "edits_proposal"), (False, "edits_before")])
def test_edits_after_are_those_of_the_final_text(accepted, after):
    case = cases.Case(0, "x", " abcd", "abxy ", ())
    judged = judge_proposal(case, Proposal("abxd", accepted=accepted), Proposal("abxyz"))
    assert [judged[f"edits_{name}"]["codepoint"] for name in ("before", "proposal", "base")] == [2, 1, 1]
    assert judged["edits_after"] == judged[after] and judged["reference_units"]["codepoint"] == 4
    assert judge.final_text(judged) == ("abxd" if accepted else " abcd")

"""Evidence that repair helps: each criterion holds for a sound evaluation and fails for one that is not."""

from __future__ import annotations

from pathlib import Path

import planted_runs
import pytest

from thunder.evaluation.cases import Case
from thunder.evaluation.claims import repair_evidence
from thunder.evaluation.engines import Proposal
from thunder.evaluation.metrics import judge
from thunder.text.row_fields import PARTITIONS


def repaired(folder: Path, count: int = 320, *, worse: int = 0, evidence: str = "real_same_provenance",
             base: str | None = "heard", novelty_worse: bool = False, accepted: int | None = None,
             helps: int | None = None) -> Path:  # fmt: skip
    """An evaluation's rows: what was heard has two wrong letters, and a proposal mends one."""
    folder.mkdir()
    rows = []
    for place in range(count):
        wanted, heard, better, bad = "ߊߋߌߍߎߏߐߓߔߕ", "ߘߘߌߍߎߏߐߓߔߕ", "ߊߘߌߍߎߏߐߓߔߕ", "ߘߘߘߍߎߏߐߓߔߕ"
        partition = PARTITIONS[place % len(PARTITIONS)]
        text = bad if place < worse or (novelty_worse and partition == "novelty") else better
        text = heard if helps is not None and place >= helps else text
        case = Case(place, f"r{place}", heard, wanted, (), partition, "nko", evidence)
        mine = Proposal(text, accepted=accepted is None or place < accepted)
        other = {"heard": Proposal(heard), "better": Proposal(wanted), None: None}[base]
        rows.append(judge.judge_proposal(case, mine, other))
    planted_runs.write_jsonl(folder / "predictions.jsonl", rows)
    return folder


def test_a_sound_evaluation_holds_every_criterion(tmp_path):
    found, figures = repair_evidence.judge_repair(repaired(tmp_path / "e"))
    assert [name for name, holds, _ in found if holds] == list(repair_evidence.CRITERIA)
    assert figures["worse_upper95"] == pytest.approx(1 - 0.05 ** (1 / 320))


@pytest.mark.parametrize("options, criteria", [
    ({"evidence": "smoke"}, {"evidence_class"}),
    ({"count": 298}, {"harm"}),
    ({"worse": 1}, {"harm"}),
    ({"accepted": 200}, {"harm"}),
    ({"helps": 0}, {"cer_change", "base"}),
    ({"helps": 1}, {"cer_change"}),  # one row of 320: the interval reaches 0
    ({"novelty_worse": True}, {"partitions", "harm"}),
    ({"base": "better"}, {"base"}),
    ({"base": None}, {"base"}),
])  # fmt: skip
def test_unsound_evaluations(tmp_path, options, criteria):
    found, _ = repair_evidence.judge_repair(repaired(tmp_path / "e", **options))
    assert {name for name, holds, _ in found if not holds} == criteria


def test_counts_that_are_not_of_the_texts_carry_nothing(tmp_path):
    folder = repaired(tmp_path / "e")
    rows = planted_runs.read_jsonl(folder / "predictions.jsonl")
    rows[5]["edits_after"]["codepoint"] = 0
    planted_runs.write_jsonl(folder / "predictions.jsonl", rows)
    found, _ = repair_evidence.judge_repair(folder)
    assert not any(holds for _, holds, _ in found) and "line 6: 'edits_after'" in found[0][2]

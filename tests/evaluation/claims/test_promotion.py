"""Promotion: one sound claim of each kind passes; every way of being unsound is refused by its own criterion."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import planted_runs
import pytest
from conftest import REPOSITORY

from thunder.cli.main import main
from thunder.evaluation import cases
from thunder.evaluation.claims import promotion
from thunder.evaluation.engines import Proposal
from thunder.evaluation.metrics import judge, summary
from thunder.runs.bundles import audit_record, bundle
from thunder.runs.hypotheses import frozen_hypothesis
from thunder.runs.tables import table_files

FIXTURES = REPOSITORY / "tests" / "fixtures"
TABLES = """schema: thunder.tables/1
out: out
runs:
  plain: [plain-1, plain-2, plain-3]
  traj: [traj-1, traj-2, traj-3]
tables:
  - {name: paper, title: Modes, baseline: plain, allow: [mode], rows: [plain, traj], columns: [cer]}
"""


def logs(scale: float, leak: bool = False) -> list[dict]:
    """Reports and validations as the trainer logs them, of a run that gets better and does not overfit."""
    lines = [{"step": 0, "time": 5000.0, "valid_loss": 3.0, "valid_se": 0.01, "probe_loss": 3.0, "probe_se": 0.01}]
    for step in range(40, 401, 40):
        fall = 2 * (1 - step / 800)
        lines.append({"step": step, "time": 5000.0 + step, "loss": fall, "learning_rate": 3e-4, "grad_norm": 1.0,
                      "scale": scale, "tokens": step * 100})  # fmt: skip
        lines.append({"step": step, "time": 5001.0 + step, "valid_loss": fall - 0.4 if leak else fall + 0.1,
                      "valid_se": 0.01, "probe_loss": fall - 0.02, "probe_se": 0.01, "valid_seconds": 0.5})  # fmt: skip
    return lines


def run(root: Path, kind: str, seed: int, *, leak: bool = False, seal: bool = True, **options) -> Path:
    options = {"mode": "trajectory" if kind == "traj" else "baseline"} | options
    harm = 0.2 if kind == "traj" else 0.5
    folder = planted_runs.recognizer_run(
        root,
        f"{kind}-{seed}",
        seed=seed,
        harm=harm,
        rows=60,
        metrics=logs(options["mode"] != "baseline", leak),
        **options,
    )
    planted_runs.write_json(folder / "plan.json", {"job": "asr", "length": {"updates": 400, "epochs": 0.8}})
    if seal:
        bundle.seal_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory):
    root = tmp_path_factory.mktemp("sound")
    for seed in (1, 2, 3):
        run(root, "plain", seed)
        run(root, "traj", seed)
    planted_runs.write_json(root / "h.json", {
        "id": "trajectory", "treatment": {"key": "mode", "before": "baseline", "after": "trajectory"},
        "manipulation_check": {"trace": "scale"}, "metric": "test.cer", "measure": "treated - control",
        "outcomes": [{"when": "x < 0", "verdict": "lower"}, {"when": "otherwise", "verdict": "none"}]})  # fmt: skip
    frozen_hypothesis.freeze_hypothesis(root / "h.json", now=1000)
    (root / "tables.yaml").write_text(TABLES)
    table_files.build_table_files(root / "tables.yaml", lambda name: root / name)
    return root


def unlocked(root: Path) -> Path:
    """A copy that can be written to, as the original cannot."""
    for path in root.rglob("*"):
        path.chmod(path.stat().st_mode | 0o200)
    return root


@pytest.fixture
def root(sound_files, tmp_path):
    return unlocked(shutil.copytree(sound_files, tmp_path / "claims"))


def claim(root: Path, **changes) -> Path:
    said = {"id": "c", "kind": "comparison", "text": "trajectory lowers CER", "factor": "mode", "hypothesis": "h.json",
            "control": [f"plain-{n}" for n in (1, 2, 3)], "runs": [f"traj-{n}" for n in (1, 2, 3)],
            "tables": "tables.yaml"}  # fmt: skip
    planted_runs.write_json(root / "claim.json", said | changes)
    return root / "claim.json"


def failing(path: Path) -> set[str]:
    found = promotion.judge_claim(path, lambda name: path.parent / name)
    return {one.name for one in found.criteria if not one.holds}


def test_a_sound_comparison_is_promoted(root, capsys):
    assert main(["promote", "--claim", str(claim(root)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["decision"] == "promoted" and len(found["criteria"]) == 9
    assert found["runs"]["traj-1"] == bundle.manifest_digest(root / "traj-1") and len(found["commands"]) == 6
    assert json.loads((root / "claim.promotion.json").read_text()) == found


def again(root: Path, name: str, **options) -> None:
    """A run made anew, otherwise."""
    shutil.rmtree(root / name)
    kind, _, seed = name.partition("-")
    run(root, kind, int(seed), **options)


def tampered(root):
    rows = planted_runs.read_jsonl(root / "traj-2" / "test_predictions.jsonl")
    rows[3]["cer_edits"] -= 1
    planted_runs.write_jsonl(root / "traj-2" / "test_predictions.jsonl", rows)


def by_hand(root):
    path = root / "out" / "paper.md"
    text = path.read_text()
    digit = next(letter for letter in reversed(text) if letter.isdigit())
    path.write_text(text[::-1].replace(digit, str((int(digit) + 1) % 10), 1)[::-1])


def edited_after_the_run(root):
    path = root / "h.json"
    path.write_text(path.read_text().replace("x < 0", "x < 9"))


# what is done to the sound claim, what of the claim is said otherwise, and the criterion that has to refuse it
UNSOUND = {
    "a row was changed after the seal": (tampered, {}, "sealed"),
    "a run was never sealed": (lambda root: again(root, "traj-2", seal=False), {}, "sealed"),
    "another learning rate": (lambda root: again(root, "traj-2", learning_rate=1e-3), {}, "comparable"),
    "two parts of the mode at once": (
        lambda root: [again(root, f"traj-{n}", mode="trajectory+tar") for n in (1, 2, 3)], {}, "comparable"),
    "two seeds": (None, {"runs": ["traj-1", "traj-2"]}, "seeds"),
    "one seed three times": (None, {"runs": ["traj-1", "traj-1", "traj-1"]}, "seeds"),
    "the other way round": (None, {"lower": False}, "difference"),
    "it was changed after the run": (edited_after_the_run, {}, "hypothesis"),
    "a hypothesis that was not named": (None, {"hypothesis": None}, "hypothesis"),
    "validation rows were trained on": (lambda root: again(root, "traj-3", leak=True), {}, "memcheck"),
    "fast weights without an audit": (
        lambda root: [again(root, f"traj-{n}", mode="trajectory+ttt") for n in (1, 2, 3)], {}, "audit"),
    "a run that was forced on": (
        lambda root: (root / "plain-1" / "changes.jsonl").write_text("{}\n"), {}, "untainted"),
    "a number changed by hand": (by_hand, {}, "tables"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSOUND)
def test_unsound_comparisons_are_refused_by_their_criterion(root, capsys, name):
    change, said, criterion = UNSOUND[name]
    if change:
        change(root)
        if criterion not in ("tables", "sealed"):  # the tables are made anew, so that only one thing is wrong
            table_files.build_table_files(root / "tables.yaml", lambda name: root / name)
    path = claim(root, **said)
    wrong = failing(path)
    assert criterion in wrong
    also = {"comparable": {"difference", "hypothesis"}, "seeds": {"difference", "sealed"}, "sealed": {"tables"},
            "audit": {"comparable", "hypothesis"}, "untainted": {"sealed"}}.get(criterion, set())  # fmt: skip
    assert wrong <= {criterion} | also, "and for no reason that has nothing to do with it"
    assert main(["promote", "--claim", str(path)]) == 3
    assert "not promoted: " in capsys.readouterr().out


def passed(run: Path, **states: str) -> None:
    """An audit of a run as `thunder audit` writes it; states: of a stage, where it is not ok."""
    stages = {stage: [audit_record.Condition("labels", states.get(stage, "ok"), "x")] for stage in audit_record.STAGES}
    audit_record.write_audit(run, stages, dict.fromkeys(audit_record.STAGES, "of a test"))


@pytest.mark.expensive
def test_an_audit_of_both_stages_is_needed_and_enough(root):
    for kind, mode in (("plain", "trajectory"), ("traj", "trajectory+ttt")):
        for seed in (1, 2, 3):
            again(root, f"{kind}-{seed}", mode=mode)
    path = claim(root)
    assert "audit" in failing(path)
    runs = [root / f"traj-{n}" for n in (1, 2, 3)]
    for run in runs:
        passed(run)
    assert "audit" not in failing(path)
    passed(runs[1], pipeline="inconclusive")
    assert "audit" in failing(path)
    passed(runs[1], eval="violation")
    assert "audit" in failing(path)
    shutil.copy(runs[0] / "audit.json", runs[1] / "audit.json")
    assert "audit" in failing(path), "another run's"
    passed(runs[1])
    said = (runs[1] / "audit.json").read_text()
    (runs[1] / "audit.json").write_text(said.replace('"x"', '"y"', 1))
    assert "audit" in failing(path), "changed by hand"
    (runs[1] / "audit.json").write_text(said)
    assert "audit" not in failing(path)


def test_smoke_evidence_is_refused_first(tmp_path, capsys):
    """The published smoke rows: two accepted, none worse."""
    read = cases.read_cases(FIXTURES / "smoke.jsonl")
    rows = [judge.judge_proposal(case, Proposal(case.fields["proposal"])) for case in read.cases]
    (tmp_path / "e").mkdir()
    planted_runs.write_jsonl(tmp_path / "e" / "predictions.jsonl", rows)
    path = tmp_path / "agp_cer.json"
    said = {"id": "agp_cer", "kind": "repair", "text": "the bridge lowers CER", "evaluation": "e"}
    planted_runs.write_json(path, said)
    assert main(["promote", "--claim", str(path)]) == 3
    assert "not promoted: evidence_class=smoke, accepted 2 < 299" in capsys.readouterr().out
    assert summary.summarize_rows(rows)["worse"] == 0


def test_what_is_no_claim(tmp_path, capsys):
    path = tmp_path / "claim.json"
    planted_runs.write_json(path, {"id": "c", "kind": "wish", "text": "x", "force": True})
    assert main(["promote", "--claim", str(path)]) == 2
    said = capsys.readouterr().err
    assert "unknown key 'force'" in said and "'kind'" in said
    assert main(["promote", "--claim", str(tmp_path / "nothing.json")]) == 2

"""Half-done evaluations: cut off anywhere they end in the same files; a changed fingerprint is refused by name."""

from __future__ import annotations

import json

import pytest
from conftest import write_rows

from thunder.errors import ArtifactError, UsageError
from thunder.evaluation import cases, evaluate
from thunder.evaluation.engines import IdentityEngine, Proposal
from thunder.evaluation.evaluation_settings import EvalSettings
from thunder.evaluation.proposal_ledger import PARTIAL_FILE, ProposalLedger, read_stored_settings

PAIRS = [(Proposal(f"ߊ{n}", -0.5, 0.1, n), Proposal("b") if n % 2 else None) for n in range(4)]


def begun(folder, pairs=PAIRS, **fingerprint):
    ledger = ProposalLedger(folder, {"rows": "r"}, {"a": 1} | fingerprint)
    ledger.append(pairs)
    ledger.close()


def opened(folder, **fingerprint):
    ledger = ProposalLedger(folder, {}, {"a": 1} | fingerprint)
    ledger.close()
    return ledger.pairs


def test_proposals_come_back(tmp_path):
    begun(tmp_path / "new" / "folder")
    assert opened(tmp_path / "new" / "folder") == PAIRS
    assert read_stored_settings(tmp_path / "new" / "folder") == {"rows": "r"}


@pytest.mark.expensive
def test_cut_off_at_every_byte_of_its_last_lines(tmp_path):
    begun(tmp_path)
    whole = (tmp_path / PARTIAL_FILE).read_bytes()
    header = whole.index(b"\n") + 1
    for length in range(header, len(whole) + 1):
        (tmp_path / PARTIAL_FILE).write_bytes(whole[:length])
        pairs = opened(tmp_path)
        assert pairs == PAIRS[: whole[header:length].count(b"\n")]
        begun(tmp_path, PAIRS[len(pairs) :])
        assert opened(tmp_path) == PAIRS


def test_a_changed_fingerprint_is_named(tmp_path):
    begun(tmp_path, rows_sha256="x", gone=2)
    with pytest.raises(UsageError) as error:
        opened(tmp_path, rows_sha256="y", new=3)
    for words in ("rows_sha256 was 'x' and is 'y'", "gone was 2 and is None", "new was None and is 3"):
        assert words in error.value.message
    assert "a was" not in error.value.message


@pytest.mark.parametrize("data, where", [
    (b"", "the first line is not that of an evaluation"),
    (b"[]\n", "the first line is not that of an evaluation"),
    (b"{\n", "the first line is not that of an evaluation"),
    (b'{"evaluation": 1, "settings": {}, "ground": {"a": 1}}\nxx\n', f"{PARTIAL_FILE}:2: "),
    (b'{"evaluation": 1, "settings": {}, "ground": {"a": 1}}\n[{"other": 1}, null]\n', f"{PARTIAL_FILE}:2: "),
])  # fmt: skip
def test_a_damaged_ledger_is_refused(tmp_path, data, where):
    (tmp_path / PARTIAL_FILE).write_bytes(data)
    with pytest.raises(ArtifactError, match=where):
        opened(tmp_path)


def test_without_one_there_is_nothing_to_go_on_with(tmp_path):
    with pytest.raises(UsageError, match="no unfinished evaluation"):
        read_stored_settings(tmp_path)


class Failing(IdentityEngine):
    """Proposes two rows at a time, and is interrupted before the row of this number."""

    chunk = 2

    def __init__(self, last):
        self.last, self.asked = last, []

    def propose(self, cases, finished=None):
        for case in cases:
            if case.place == self.last:
                raise KeyboardInterrupt
            self.asked.append(case.place)
            yield Proposal(case.input + "x")


def test_an_interrupted_evaluation_ends_as_one_that_was_not(tmp_path):
    rows = [{"id": str(n), "before": "ߊߋ" * (n + 1), "after": "ߊߌ" * (n + 1)} for n in range(7)]
    read = cases.read_cases(write_rows(tmp_path / "r.jsonl", rows))
    settings = EvalSettings(rows="r.jsonl", resamples=100)
    whole = evaluate.run_evaluation(read, settings, Failing(None), None, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        evaluate.run_evaluation(read, settings, Failing(5), None, tmp_path / "cut")
    assert not (tmp_path / "cut" / "results.json").exists()
    told, engine = [], Failing(None)
    again = evaluate.run_evaluation(read, settings, engine, None, tmp_path / "cut", lambda *counts: told.append(counts))
    assert engine.asked == [4, 5, 6] and again["resumed_after"] == 4
    assert told[0] == (4, 7) and told[-1] == (7, 7)
    files = [(tmp_path / name / "predictions.jsonl").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1] and again["files"]["predictions.jsonl"] == whole["files"]["predictions.jsonl"]
    assert json.loads((tmp_path / "cut" / "results.json").read_text())["cer_after"] == whole["cer_after"]
    assert not (tmp_path / "cut" / PARTIAL_FILE).exists()

"""Facts of a run: they are read from its options, logs and results; damaged files leave facts out."""

from __future__ import annotations

import json

import planted_runs
import pytest

from thunder.runs.compare import run_facts


def test_shares_of_traces():
    assert run_facts.share_of_differing_steps({1: 1.0, 2: 1.0, 3: 1.0}, {2: 1.04, 3: 1.2, 4: 9.0}) == 0.5
    assert run_facts.share_of_differing_steps({1: 1.0}, {2: 1.0}) is None
    assert run_facts.share_of_differing_steps({1: 0.0}, {1: 0.0}) == 0


@pytest.mark.parametrize("name", ["results.json", "plan.json", "environment.json", "metrics.jsonl", "vocab.json"])
def test_damaged_files_leave_facts_out(tmp_path, name):
    run = planted_runs.recognizer_run(tmp_path)
    (run / name).write_bytes(b"[\xff")
    run_facts.read_run_facts(run)


def test_facts_are_those_of_the_files(tmp_path):
    run = planted_runs.recognizer_run(tmp_path, "a", seed=7, mode="trajectory", learning_rate=1e-4)
    facts = run_facts.read_run_facts(run)
    assert (facts.name, facts.options["lr"], facts.options["mode"], facts.options["seed"]) == (
        "a",
        1e-4,
        "trajectory",
        7,
    )
    entries = planted_runs.read_jsonl(run / "metrics.jsonl")
    assert run_facts.metric_entries(run / "metrics.jsonl") == entries
    assert facts.done.rates == {each["step"]: each["learning_rate"] for each in entries if "learning_rate" in each}
    ids = json.loads((run / "split.json").read_text())["ids"]
    assert facts.identity["split"] == planted_runs.sha256_of_value(ids), "the digest of the ids alone"
    assert facts.forced == ()


def test_the_later_line_of_a_step_wins():
    entries = [{"step": 2, "loss": 3}, {"step": 1, "loss": 4.0}, {"step": 2, "loss": 2.5}]
    entries += [{"step": True, "loss": 1.0}, {"step": 3, "loss": "low"}, {"loss": 1.0}]
    trace = run_facts.learning_rate_trace(entries, "loss")
    assert list(trace.items()) == [(1, 4.0), (2, 2.5)]

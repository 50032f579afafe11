"""The audit of how weights came about: a clean pipeline passes, and each planted fault is caught by its condition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from legal_heads import legal_recognizer

from thunder.acoustic.audit import pipeline_stage
from thunder.acoustic.training.ctc_task import AcousticTask
from thunder.acoustic.trajectory import training_statistics


@pytest.fixture
def legal():
    return legal_recognizer()


# how the weights came about


def pipeline(legal, **changes):
    """State of each condition of a run that was made as it should be, but for `changes`."""
    recognizer, parts, made = legal
    given = {
        "settings": recognizer.settings, "features": parts.features, "trace": {10: 2.0, 20: 1.0}, "statistics": made,
        "frozen": {part: [one.id for one in getattr(parts, part)] for part in ("train", "valid", "test")},
        "results": {"best_step": 20}, "updates": 2,
    }  # fmt: skip
    return {one.name: one.state for one in pipeline_stage.audit_pipeline(**given | changes)}


@pytest.mark.expensive
def test_a_clean_pipeline_passes(legal):
    assert set(pipeline(legal).values()) == {"ok"}


@pytest.mark.expensive
def test_planted_faults_of_a_pipeline(legal):
    recognizer, parts, made = legal
    ids = {part: [one.id for one in getattr(parts, part)] for part in ("train", "valid", "test")}
    leaked = ids | {"train": [*ids["train"], ids["test"][0]]}
    seen = training_statistics.fit_statistics(recognizer.settings, parts.features, [*parts.train, *parts.test])
    found = pipeline(legal, frozen=leaked, statistics=seen, results={"best_step": 10})
    assert {name for name, state in found.items() if state == "violation"} == {"parts", "tables", "choice"}
    assert pipeline(legal, statistics=seen, same_machine=False)["tables"] == "inconclusive"


@pytest.mark.expensive
def test_the_last_digits_of_another_blas_are_no_violation(legal):
    for by, state in ((1e-6, "ok"), (1e-3, "violation")):
        other = replace(legal[2], scalar_mean=legal[2].scalar_mean + by * np.abs(legal[2].scalar_mean).max())
        assert pipeline(legal, statistics=other)["tables"] == state


@pytest.mark.expensive
def test_a_trainer_that_reads_the_test_is_caught(legal, monkeypatch):
    """The codebook is fitted on everything: the test's features were read, and other ones give other weights."""
    real = training_statistics.fit_statistics
    monkeypatch.setattr(pipeline_stage.training_statistics, "fit_statistics", lambda settings, features, train: real(
        settings, features, [*train, *(one for one in everything if one not in train)]))  # fmt: skip
    everything = legal[1].train + legal[1].test
    found = pipeline(legal)
    assert (found["reads"], found["end to end"], found["tables"]) == ("violation",) * 3


@pytest.mark.expensive
def test_a_trainer_that_learns_from_labels_of_the_test_is_caught(legal, monkeypatch):
    class Leaks(AcousticTask):
        def __init__(self, settings, prepared, made):
            super().__init__(settings, prepared, made)
            self.model.leave.bias = self.model.leave.bias + 0.01 * sum(len(one.labels) for one in prepared.test)

    monkeypatch.setattr(pipeline_stage, "AcousticTask", Leaks)
    found = pipeline(legal)
    assert found["end to end"] == "violation" and found["reads"] == "ok", "nothing of the features was read"


@pytest.mark.expensive
def test_what_a_run_began_with_is_not_looked_at(legal, tmp_path):
    recognizer, parts, made = legal
    task = AcousticTask(recognizer.settings, parts, made)
    task.save(tmp_path)
    settings = recognizer.settings.model_copy(update={"start_from": str(tmp_path / "head.safetensors")})
    assert pipeline(legal, settings=settings)["lineage"] == "inconclusive"

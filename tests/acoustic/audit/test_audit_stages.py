"""The audit of test-time training: a legal head passes, and each planted cheat is caught by the rule that it breaks."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
import toy_speech

from thunder.acoustic.audit import eval_stage, pipeline_stage
from thunder.acoustic.dataset import utterances
from thunder.acoustic.head.ttt import AdapterOutput, FastWeights
from thunder.acoustic.inference.recognizer import Recognizer
from thunder.acoustic.training.ctc_task import AcousticTask
from thunder.acoustic.trajectory import training_statistics
from thunder.runs.bundles import audit_record

MODE = "trajectory+ttt"


@pytest.fixture
def legal():
    """(recognizer, parts, tables): a head whose adapter does something, as one that was trained does."""
    settings, parts, made = toy_speech.dataset(24, mode=MODE, ttt_lr=0.1)
    task = AcousticTask(settings, parts, made)
    draw = np.random.default_rng(5)
    adapter = task.model.adapter
    adapter.output.weight = mx.array(draw.normal(0, 0.5, adapter.output.weight.shape).astype(np.float32))
    task.model.leave.weight = mx.array(draw.normal(0, 1, task.model.leave.weight.shape).astype(np.float32))
    return Recognizer(task.model, made, settings), parts, made


def reported(recognizer, parts) -> dict[str, str]:
    rows = recognizer.recognize(parts.features, parts.test, 3)
    return {one.id: row["asr_text"] for one, row in rows}


def broken(recognizer, parts, said=None, **options) -> dict[str, str]:
    """Name -> state of the conditions that are not ok."""
    found = eval_stage.audit_evaluation(
        recognizer, parts.features, parts.test, said or reported(recognizer, parts), 3, **options
    )
    return {one.name: one.state for one in found if one.state != "ok"}


@pytest.mark.expensive
def test_a_legal_head_passes_every_condition(legal):
    recognizer, parts, _ = legal
    found = eval_stage.audit_evaluation(recognizer, parts.features, parts.test, reported(recognizer, parts), 3)
    assert audit_record.audit_verdict(found) == "pass"
    assert [one.name for one in found] == ["repeat", "distribution", "labels", "rate 0", "read before learning",
                                           "reset", "neighbours", "reported", "slow weights"]  # fmt: skip
    assert all(one.probes for one in found)


class LearnsFirst(FastWeights):
    """Learns from the utterance as a whole before it reads it."""

    def adapt(self, x, mask, state=None) -> AdapterOutput:
        first = super().adapt(x, mask, state)
        return super().adapt(x, mask, first.state)


class Carries(FastWeights):
    """Goes on from where the batch before left off."""

    def initial_state(self, rows):
        kept = getattr(self, "kept", None)
        return super().initial_state(rows) if kept is None else mx.broadcast_to(kept, super().initial_state(rows).shape)

    def adapt(self, x, mask, state=None) -> AdapterOutput:
        done = super().adapt(x, mask, state)
        object.__setattr__(self, "kept", done.state.mean(0, keepdims=True))
        return done


class CarriesWithin(Carries):
    """The same, and anew with every second batch: with two batches a test is the same each time."""

    calls = 0

    def initial_state(self, rows):
        object.__setattr__(self, "calls", self.calls + 1)
        return super().initial_state(rows) if self.calls % 2 == 0 else FastWeights.initial_state(self, rows)


class Shares(FastWeights):
    """Utterances of a batch learn together."""

    def adapt(self, x, mask, state=None) -> AdapterOutput:
        first = super().adapt(x, mask, state)
        together = mx.broadcast_to(first.state.mean(0, keepdims=True), first.state.shape)
        return super().adapt(x, mask, together)


class Stubborn(FastWeights):
    """Does not care for its rate."""

    def adapt(self, x, mask, state=None) -> AdapterOutput:
        rate, self.learning_rate = self.learning_rate, 0.1
        try:
            return super().adapt(x, mask, state)
        finally:
            self.learning_rate = rate


class Erodes(FastWeights):
    """Changes weights that are not fast ones, without a trace in what it says at once."""

    def adapt(self, x, mask, state=None) -> AdapterOutput:
        done = super().adapt(x, mask, state)
        self.gate = self.gate + 1e-9 * mx.arange(self.gate.size)
        return done


def with_adapter(recognizer, kind):
    old = recognizer.model.adapter
    new = kind(old.gate.size, old.heads, old.head_dim, old.chunk_size, old.learning_rate, old.cap)
    new.update(old.parameters())
    recognizer.model.adapter = new
    return recognizer


@pytest.mark.expensive
@pytest.mark.parametrize("kind, rule", [
    (LearnsFirst, "read before learning"), (Shares, "neighbours"), (Stubborn, "rate 0"), (Erodes, "slow weights"),
])  # fmt: skip
def test_planted_adapters_are_caught(legal, kind, rule):
    recognizer, parts, _ = legal
    assert broken(with_adapter(recognizer, kind), parts).get(rule) == "violation"


@pytest.mark.expensive
def test_what_is_carried_over_never_passes(legal):
    """From test to test: the same thing twice is not the same, and nothing can be told. Within a test: caught."""
    recognizer, parts, _ = legal
    assert broken(with_adapter(recognizer, Carries), parts) == {"repeat": "inconclusive"}
    assert broken(with_adapter(recognizer, CarriesWithin), parts)["reset"] == "violation"


class Peeks(Recognizer):
    """Says the reference where it is near."""

    def _recognize_one(self, features, example, probabilities, character_partitions):
        row = super()._recognize_one(features, example, probabilities, character_partitions)
        return row | {"asr_text": example.text or row["asr_text"]}


@pytest.mark.expensive
def test_a_recogniser_that_looks_at_references_is_caught(legal):
    recognizer, parts, made = legal
    assert broken(Peeks(recognizer.model, made, recognizer.settings), parts)["labels"] == "violation"


@pytest.mark.expensive
def test_reported_texts_have_to_be_those_that_are_heard(legal):
    recognizer, parts, _ = legal
    said = reported(recognizer, parts)
    said[parts.test[0].id] += "x"
    assert broken(recognizer, parts, said) == {"reported": "violation"}
    assert broken(recognizer, parts, said, same_machine=False) == {"reported": "inconclusive"}


@pytest.mark.expensive
def test_utterances_within_a_chunk_prove_nothing(legal):
    recognizer, parts, _ = legal
    recognizer.model.adapter.chunk_size = 1000
    assert broken(recognizer, parts) == {"it adapts": "inconclusive"}


@pytest.mark.expensive
def test_what_is_no_distribution_is_caught(legal, monkeypatch):
    recognizer, parts, _ = legal
    real = eval_stage.HeadProbe.recognize

    def louder(self, *arguments, **words):
        return {name: (text, found + 0.01) for name, (text, found) in real(self, *arguments, **words).items()}

    monkeypatch.setattr(eval_stage.HeadProbe, "recognize", louder)
    assert broken(recognizer, parts) == {"distribution": "violation"}


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


def test_noise_is_loud_and_always_the_same(legal):
    _, parts, _ = legal
    one = parts.test[0]
    watched = eval_stage.ReadTrackingFeatures(parts.features.stores, frozenset([one.id]))
    real, noise = parts.features.features_of(one), watched.features_of(one)
    assert (
        noise.shape == real.shape and noise.std() > 50 * real.std() and np.array_equal(noise, watched.features_of(one))
    )
    assert np.array_equal(watched.features_of(parts.test[1]), parts.features.features_of(parts.test[1]))
    assert watched.ids_read == {one.id, parts.test[1].id}
    assert isinstance(watched, utterances.FeatureSet)

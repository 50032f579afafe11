"""The audit of test-time training: a legal head passes, and each planted cheat is caught by the rule that it breaks."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from legal_heads import legal_recognizer

from thunder.acoustic.audit import eval_stage
from thunder.acoustic.dataset import utterances
from thunder.acoustic.head.ttt import AdapterOutput, FastWeights
from thunder.acoustic.inference.recognizer import Recognizer
from thunder.runs.bundles import audit_record


@pytest.fixture
def legal():
    return legal_recognizer()


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

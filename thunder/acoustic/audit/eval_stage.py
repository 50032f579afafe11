"""Audit the evaluation of test-time training: probe the head with changes that must not change its output.

An output may depend only on the utterance's own features, in their order, with fast weights that start at zero. Each
condition changes one other input and compares the log probabilities. Two runs without a change give the tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from thunder import digest
from thunder.acoustic.batches.collate import BatchAssembler
from thunder.acoustic.dataset.utterances import AcousticExample, FeatureSet, FeatureSource
from thunder.acoustic.decoding.beam_search import greedy_decode
from thunder.acoustic.head.ctc_head import downsampled_frames
from thunder.acoustic.head.ttt import FastWeights
from thunder.acoustic.inference.recognizer import Recognizer
from thunder.runs.bundles.audit_record import Condition, ConditionState

MAX_REPEAT_DIFFERENCE = 1e-3  # nats; if a repetition differs by more, the audit is inconclusive
TOLERANCE_FACTOR = 8  # times the difference between two identical runs gives the tolerance
NOISE_SCALE = 100.0  # times the deviation of the features that the noise replaces
PROBABILITY_TOLERANCE = 1e-4  # allowed difference between the sum of a frame's probabilities and 1
ProbeOutputs = Mapping[str, tuple[str, np.ndarray]]  # id -> text, log probabilities [T', V]


@dataclass(frozen=True)
class ReadTrackingFeatures(FeatureSet):
    """Features that record the ids that were read, and return noise for some ids."""

    noisy: frozenset[str] = frozenset()
    ids_read: set[str] = field(default_factory=set, compare=False)

    def features_of(self, example: AcousticExample) -> np.ndarray:
        """[T, D] float32."""
        self.ids_read.add(example.id)
        real = super().features_of(example)
        return _noise(real, example.id) if example.id in self.noisy else real


def _noise(like: np.ndarray, name: str) -> np.ndarray:
    draw = np.random.Generator(np.random.PCG64([*name.encode()]))
    return (NOISE_SCALE * (like.std() + 1) * draw.standard_normal(like.shape)).astype(np.float32)


@dataclass(frozen=True)
class HeadProbe:
    """A head and the utterances that probe it; tolerance: largest difference in nats that repetition explains here."""

    recognizer: Recognizer
    features: FeatureSet
    examples: Sequence[AcousticExample]
    batch_size: int
    tolerance: float = 0.0

    def recognize(
        self, examples: Sequence[AcousticExample] | None = None, features: FeatureSource | None = None
    ) -> ProbeOutputs:
        """Utterance id -> (greedy text, log probabilities [T', V]), computed as in every test."""
        log_probs: list[np.ndarray] = []

        def decode(frame_log_probs: np.ndarray) -> Sequence[int]:
            log_probs.append(np.array(frame_log_probs))
            return greedy_decode(frame_log_probs)

        recording_recognizer = replace(self.recognizer, decode=decode)
        rows = recording_recognizer.recognize(features or self.features, examples or self.examples, self.batch_size)
        return {example.id: (row["asr_text"], log_probs[-1]) for example, row in rows}

    def compare(self, name: str, description: str, pairs: Sequence[tuple[ProbeOutputs, ProbeOutputs]]) -> Condition:
        """The condition that both outputs of each pair are equal, for every utterance of the second output."""
        largest, first_violation, probes = 0.0, None, 0
        for before, after in pairs:
            for utterance, (text, log_probs) in after.items():
                probes += 1
                expected_text, expected = before[utterance]
                difference = _max_difference(expected, log_probs)
                if difference > self.tolerance or text != expected_text:
                    first_violation = first_violation or utterance
                largest = max(largest, difference)
        state: ConditionState = "violation" if first_violation else "ok"
        message = (
            f"{description}: largest difference {largest:.3g} nats, tolerance on this machine {self.tolerance:.3g} nats"
        )
        return Condition(name, state, message, probes, largest, first_violation)


def _max_difference(one: np.ndarray, other: np.ndarray) -> float:
    if one.shape != other.shape:
        return float("inf")
    apart = float(np.abs(one - other).max(initial=0.0))
    return apart if np.isfinite(apart) else float("inf")


def audit_evaluation(
    recognizer: Recognizer,
    features: FeatureSet,
    examples: Sequence[AcousticExample],
    reported: Mapping[str, str],
    batch_size: int,
    same_machine: bool = True,
) -> list[Condition]:
    """Return every condition of the test. reported: id -> text in the run's predictions.

    same_machine: True if the run was made on this machine. Otherwise differing texts are inconclusive.
    """
    weights_digest = _weights_digest(recognizer)
    batch_size = min(batch_size, max(2, len(examples) // 2))  # at least two batches of two
    probe = HeadProbe(recognizer, features, examples, batch_size)
    first, second = probe.recognize(), probe.recognize()
    repeat_difference = max(_max_difference(first[name][1], second[name][1]) for name in first)
    if repeat_difference > MAX_REPEAT_DIFFERENCE:
        return [
            Condition(
                "repeat",
                "inconclusive",
                f"two identical tests differ by {repeat_difference:.3g} nats",
                2,
                repeat_difference,
            )
        ]
    probe = replace(probe, tolerance=TOLERANCE_FACTOR * repeat_difference)
    return [
        Condition("repeat", "ok", f"two identical tests differ by {repeat_difference:.3g} nats", 2, repeat_difference),
        _check_distributions(first),
        _check_references_unused(probe, first),
        _check_rate_zero(probe),
        *_check_causal_updates(probe),
        _check_reset(probe, first),
        _check_neighbors(probe, first),
        _check_reported(first, reported, same_machine),
        _check_weights_unchanged(weights_digest, _weights_digest(recognizer)),
    ]


def _weights_digest(recognizer: Recognizer) -> str:
    arrays = tree_flatten(recognizer.model.parameters())
    return digest.sha256_json({name: digest.sha256_bytes(np.array(array).tobytes()) for name, array in arrays})


def _check_distributions(outputs: ProbeOutputs) -> Condition:
    errors = {
        name: float(np.abs(np.exp(log_probs).sum(-1) - 1).max(initial=0.0)) for name, (_, log_probs) in outputs.items()
    }
    violations = [name for name, error in errors.items() if not error <= PROBABILITY_TOLERANCE]
    message = "the probabilities of every frame sum to 1"
    return Condition(
        "distribution",
        "violation" if violations else "ok",
        message,
        len(errors),
        max(errors.values()),
        next(iter(violations), None),
    )


def _check_references_unused(probe: HeadProbe, first: ProbeOutputs) -> Condition:
    """Blank the references, then exchange them: the outputs must not change."""
    blanked = [replace(example, text="", labels=()) for example in probe.examples]
    rotated = [*probe.examples[1:], probe.examples[0]]
    exchanged = [
        replace(example, text=donor.text, labels=donor.labels)
        for example, donor in zip(probe.examples, rotated, strict=True)
    ]
    pairs = [(first, probe.recognize(blanked)), (first, probe.recognize(exchanged))]
    return probe.compare("labels", "references blanked, then exchanged", pairs)


def _check_rate_zero(probe: HeadProbe) -> Condition:
    """With a learning rate of 0 the head must equal the head without fast weights."""
    model = probe.recognizer.model
    adapter = model.adapter
    assert adapter is not None
    learning_rate, adapter.learning_rate = adapter.learning_rate, 0.0
    try:
        with_zero_rate = probe.recognize()
        model.adapter = None
        without_adapter = probe.recognize()
    finally:
        model.adapter, adapter.learning_rate = adapter, learning_rate
    return probe.compare("rate 0", "learning rate 0 compared with no fast weights", [(without_adapter, with_zero_rate)])


def _check_reset(probe: HeadProbe, first: ProbeOutputs) -> Condition:
    """Recognize the batches in reverse order: no state may pass from one utterance to the next."""
    ordered = sorted(probe.examples, key=lambda example: (example.frames, example.id))
    groups = [ordered[start : start + probe.batch_size] for start in range(0, len(ordered), probe.batch_size)]
    outputs: dict[str, tuple[str, np.ndarray]] = {}
    for group in reversed(groups):
        outputs |= probe.recognize(group)
    return probe.compare("reset", f"{len(groups)} batches in reverse order", [(first, outputs)])


def _check_neighbors(probe: HeadProbe, first: ProbeOutputs) -> Condition:
    """Replace every second utterance of a batch with loud noise: the others must not change."""
    ordered = sorted(probe.examples, key=lambda example: (example.frames, example.id))
    pairs = []
    for offset in (0, 1):
        noisy = frozenset(example.id for example in ordered[offset::2])
        outputs = probe.recognize(features=ReadTrackingFeatures(probe.features.stores, noisy=noisy))
        pairs.append((first, {name: output for name, output in outputs.items() if name not in noisy}))
    return probe.compare("neighbours", "other utterances of the batch replaced with loud noise", pairs)


def _check_causal_updates(probe: HeadProbe) -> Iterator[Condition]:
    """Change the frames after the Transformer from some frame on: the adapter's earlier outputs must not change."""
    adapter = probe.recognizer.model.adapter
    assert adapter is not None
    largest, first_violation, probes, learned, longest = 0.0, None, 0, 0, 0
    for names, x, mask in _encoded_batches(probe):
        unchanged = np.array(adapter.adapt(x, mask).out)
        for frame in _probe_frames(x.shape[1], adapter):
            noise = mx.array(_noise(np.array(x), f"{names[0]}-{frame}"))
            changed = mx.concatenate([x[:, :frame], noise[:, frame:]], 1)
            output = np.array(adapter.adapt(changed, mask).out)
            differences = np.abs(output[:, :frame] - unchanged[:, :frame]).max((1, 2))
            probes += len(names)
            largest = max(largest, float(differences.max()))
            violation = next(
                (
                    name
                    for name, difference in zip(names, differences, strict=True)
                    if not difference <= probe.tolerance
                ),
                None,
            )
            first_violation = first_violation or (f"{violation}, frame {frame}" if violation else None)
        lengths = np.array(mask.sum(1))
        longest, learned = max(longest, int(lengths.max())), learned + int((lengths > adapter.chunk_size).sum())
    message = (
        f"frames changed from some frame on, earlier outputs compared; {learned} utterances are longer than a chunk"
    )
    yield Condition(
        "read before learning", "violation" if first_violation else "ok", message, probes, largest, first_violation
    )
    if not learned:
        message = f"no probed utterance is longer than a chunk of {adapter.chunk_size} frames (longest: {longest})"
        yield Condition("it adapts", "inconclusive", f"{message}: no output used updated fast weights")


def _probe_frames(frames: int, adapter: FastWeights) -> list[int]:
    """Frames to change from: around chunk boundaries, in the middle and at the end."""
    chunk_size = adapter.chunk_size
    candidates = {1, chunk_size - 1, chunk_size, chunk_size + 1, 2 * chunk_size, frames // 2, frames - 1}
    return sorted(frame for frame in candidates if 0 < frame < frames)


def _encoded_batches(probe: HeadProbe) -> Iterator[tuple[list[str], mx.array, mx.array]]:
    """(ids, frames [B, T', W] behind the Transformer, mask [B, T']) of each batch."""
    model, settings = probe.recognizer.model, probe.recognizer.settings
    assembler = BatchAssembler(settings, probe.features, probe.recognizer.statistics)
    ordered = sorted(probe.examples, key=lambda example: (example.frames, example.id))
    model.eval()
    for start, end in pairwise([*range(0, len(ordered), probe.batch_size), len(ordered)]):
        arrays = assembler.batch(ordered[start:end])
        x, mask = model.encode(arrays.x, arrays.frames, arrays.conditioning)
        assert x.shape[1] >= downsampled_frames(ordered[end - 1].frames, settings.downsample)
        yield [example.id for example in ordered[start:end]], x, mask


def _check_reported(outputs: ProbeOutputs, reported: Mapping[str, str], same_machine: bool) -> Condition:
    """The run's predictions must equal the output of these weights."""
    differing = [name for name, (text, _) in outputs.items() if reported.get(name) != text]
    if not differing:
        return Condition("reported", "ok", "the run's predictions equal the outputs here", len(outputs))
    message = f"{len(differing)} of {len(outputs)} predictions differ from the outputs here"
    if not same_machine:
        message += "; machine, version or BLAS differ from the run's"
        return Condition("reported", "inconclusive", message, len(outputs), None, differing[0])
    return Condition("reported", "violation", message, len(outputs), None, differing[0])


def _check_weights_unchanged(before: str, after: str) -> Condition:
    state: ConditionState = "ok" if before == after else "violation"
    return Condition("slow weights", state, "the checkpoint's slow weights before and after all probes", 1)

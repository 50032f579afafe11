"""Is test-time training tested within the rules? The head as it is tested is probed with inputs that must not matter.

Legal is: an utterance's own features, in their order, from fast weights that start anew. Each rule is tried by changing
what it forbids to matter, and looking at the log probabilities. Two runs without a change say how exact that is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from thunder import digest
from thunder.acoustic.batches.collate import Assembler
from thunder.acoustic.dataset.utterances import Example, Features, Frames
from thunder.acoustic.decoding.beam_search import greedy
from thunder.acoustic.head.ctc_head import frames_out
from thunder.acoustic.head.ttt import FastWeights
from thunder.acoustic.inference.recognizer import Recogniser
from thunder.runs.bundles.audit_record import Condition, ConditionState

NOISY = 1e-3  # nats; where the same thing twice differs by more, nothing can be told
MARGIN = 8  # of the difference between the same thing twice
LOUD = 100.0  # of the deviation of the features that noise takes the place of
PROBABILITY = 1e-4  # by which the probabilities of a frame may miss 1
Heard = Mapping[str, tuple[str, np.ndarray]]  # id -> text, log probabilities [T', V]


@dataclass(frozen=True)
class Watched(Features):
    """Features that remember whose were read, and give noise for some."""

    noisy: frozenset[str] = frozenset()
    read: set[str] = field(default_factory=set, compare=False)

    def of(self, example: Example) -> np.ndarray:
        """[T, D] float32."""
        self.read.add(example.id)
        real = super().of(example)
        return _noise(real, example.id) if example.id in self.noisy else real


def _noise(like: np.ndarray, name: str) -> np.ndarray:
    draw = np.random.Generator(np.random.PCG64([*name.encode()]))
    return (LOUD * (like.std() + 1) * draw.standard_normal(like.shape)).astype(np.float32)


@dataclass(frozen=True)
class Probe:
    """A head, the utterances that it is probed with, and how exact it is here (tolerance in nats)."""

    recogniser: Recogniser
    features: Features
    examples: Sequence[Example]
    batch_size: int
    tolerance: float = 0.0

    def hear(self, examples: Sequence[Example] | None = None, features: Frames | None = None) -> Heard:
        """What the head hears, as every test hears it."""
        kept: list[np.ndarray] = []

        def decode(log_probabilities: np.ndarray) -> Sequence[int]:
            kept.append(np.array(log_probabilities))
            return greedy(log_probabilities)

        hearing = replace(self.recogniser, decode=decode)
        rows = hearing.rows(features or self.features, examples or self.examples, self.batch_size)
        return {one.id: (row["asr_text"], kept[-1]) for one, row in rows}

    def same(self, name: str, what: str, pairs: Sequence[tuple[Heard, Heard]]) -> Condition:
        """The condition that both of each pair are the same, for every utterance of the second."""
        worst, where, probes = 0.0, None, 0
        for one, other in pairs:
            for each, (text, found) in other.items():
                probes += 1
                wanted, before = one[each]
                apart = _apart(before, found)
                if apart > self.tolerance or text != wanted:
                    where = where or each
                worst = max(worst, apart)
        state: ConditionState = "violation" if where else "ok"
        told = f"{what}: largest difference {worst:.3g} nats, {self.tolerance:.3g} is as exact as it is here"
        return Condition(name, state, told, probes, worst, where)


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    if one.shape != other.shape:
        return float("inf")
    apart = float(np.abs(one - other).max(initial=0.0))
    return apart if np.isfinite(apart) else float("inf")


def stage(
    recogniser: Recogniser,
    features: Features,
    examples: Sequence[Example],
    reported: Mapping[str, str],
    batch_size: int,
    same_machine: bool = True,
) -> list[Condition]:
    """Every condition of the test. reported: id -> text in the run's predictions.

    same_machine: whether the run was made on this one: else texts that differ tell nothing.
    """
    before = _digest(recogniser)
    batch_size = min(batch_size, max(2, len(examples) // 2))  # two batches at least, of two
    probe = Probe(recogniser, features, examples, batch_size)
    first, again = probe.hear(), probe.hear()
    exact = max(_apart(first[name][1], again[name][1]) for name in first)
    if exact > NOISY:
        return [Condition("repeat", "inconclusive", f"the same test twice differs by {exact:.3g} nats", 2, exact)]
    probe = replace(probe, tolerance=MARGIN * exact)
    return [
        Condition("repeat", "ok", f"the same test twice differs by {exact:.3g} nats", 2, exact),
        _distributions(first),
        _labels(probe, first),
        _rate_zero(probe),
        *_reading_before_learning(probe),
        _start_anew(probe, first),
        _neighbours(probe, first),
        _reported(first, reported, same_machine),
        _untouched(before, _digest(recogniser)),
    ]


def _digest(recogniser: Recogniser) -> str:
    arrays = tree_flatten(recogniser.model.parameters())
    return digest.sha256_json({name: digest.sha256_bytes(np.array(array).tobytes()) for name, array in arrays})


def _distributions(heard: Heard) -> Condition:
    off = {name: float(np.abs(np.exp(found).sum(-1) - 1).max(initial=0.0)) for name, (_, found) in heard.items()}
    wrong = [name for name, miss in off.items() if not miss <= PROBABILITY]
    told = "the probabilities of every frame add up to 1"
    return Condition(
        "distribution", "violation" if wrong else "ok", told, len(off), max(off.values()), next(iter(wrong), None)
    )


def _labels(probe: Probe, first: Heard) -> Condition:
    """References taken away, then exchanged: what is heard must not know of it."""
    blank = [replace(one, text="", labels=()) for one in probe.examples]
    others = [*probe.examples[1:], probe.examples[0]]
    moved = [replace(a, text=b.text, labels=b.labels) for a, b in zip(probe.examples, others, strict=True)]
    pairs = [(first, probe.hear(blank)), (first, probe.hear(moved))]
    return probe.same("labels", "references blanked, and exchanged", pairs)


def _rate_zero(probe: Probe) -> Condition:
    """At a rate of 0 the head is the one without fast weights."""
    model = probe.recogniser.model
    adapter = model.adapter
    assert adapter is not None
    rate, adapter.rate = adapter.rate, 0.0
    try:
        still = probe.hear()
        model.adapter = None
        without = probe.hear()
    finally:
        model.adapter, adapter.rate = adapter, rate
    return probe.same("rate 0", "a rate of 0 against no fast weights", [(without, still)])


def _start_anew(probe: Probe, first: Heard) -> Condition:
    """Batches in the other order: nothing is carried from one utterance to the next."""
    ordered = sorted(probe.examples, key=lambda one: (one.frames, one.id))
    groups = [ordered[at : at + probe.batch_size] for at in range(0, len(ordered), probe.batch_size)]
    heard: dict[str, tuple[str, np.ndarray]] = {}
    for group in reversed(groups):
        heard |= probe.hear(group)
    return probe.same("reset", f"{len(groups)} batches in the other order", [(first, heard)])


def _neighbours(probe: Probe, first: Heard) -> Condition:
    """Every other utterance of a batch as loud noise: those between must not hear it."""
    ordered = sorted(probe.examples, key=lambda one: (one.frames, one.id))
    pairs = []
    for turn in (0, 1):
        noisy = frozenset(one.id for one in ordered[turn::2])
        heard = probe.hear(features=Watched(probe.features.stores, noisy))
        pairs.append((first, {name: said for name, said in heard.items() if name not in noisy}))
    return probe.same("neighbours", "the utterances beside it as loud noise", pairs)


def _reading_before_learning(probe: Probe) -> Iterator[Condition]:
    """Frames behind the Transformer changed from some frame on: the adapter's outputs before it must stay."""
    adapter = probe.recogniser.model.adapter
    assert adapter is not None
    worst, where, probes, learned, longest = 0.0, None, 0, 0, 0
    for names, x, mask in _frames(probe):
        whole = np.array(adapter.adapt(x, mask).out)
        for at in _places(x.shape[1], adapter):
            noise = mx.array(_noise(np.array(x), f"{names[0]}-{at}"))
            changed = mx.concatenate([x[:, :at], noise[:, at:]], 1)
            found = np.array(adapter.adapt(changed, mask).out)
            apart = np.abs(found[:, :at] - whole[:, :at]).max((1, 2))
            probes += len(names)
            worst = max(worst, float(apart.max()))
            wrong = next((name for name, miss in zip(names, apart, strict=True) if not miss <= probe.tolerance), None)
            where = where or (f"{wrong}, frame {at}" if wrong else None)
        lengths = np.array(mask.sum(1))
        longest, learned = max(longest, int(lengths.max())), learned + int((lengths > adapter.chunk).sum())
    told = f"frames changed from a place on, outputs before it; {learned} utterances are longer than a chunk"
    yield Condition("read before learning", "violation" if where else "ok", told, probes, worst, where)
    if not learned:
        said = f"no utterance of the probe is longer than a chunk of {adapter.chunk} frames (longest {longest})"
        yield Condition("it adapts", "inconclusive", f"{said}: fast weights were never read after they had learned")


def _places(frames: int, adapter: FastWeights) -> list[int]:
    """Places to change from: around the ends of chunks, in the middle, at the end."""
    chunk = adapter.chunk
    wanted = {1, chunk - 1, chunk, chunk + 1, 2 * chunk, frames // 2, frames - 1}
    return sorted(at for at in wanted if 0 < at < frames)


def _frames(probe: Probe) -> Iterator[tuple[list[str], mx.array, mx.array]]:
    """(ids, frames [B, T', W] behind the Transformer, mask [B, T']) of each batch."""
    model, settings = probe.recogniser.model, probe.recogniser.settings
    assembler = Assembler(settings, probe.features, probe.recogniser.tables)
    ordered = sorted(probe.examples, key=lambda one: (one.frames, one.id))
    model.eval()
    for start, end in pairwise([*range(0, len(ordered), probe.batch_size), len(ordered)]):
        arrays = assembler.batch(ordered[start:end])
        x, mask = model.behind(arrays.x, arrays.frames, arrays.conditioning)
        assert x.shape[1] >= frames_out(ordered[end - 1].frames, settings.downsample)
        yield [one.id for one in ordered[start:end]], x, mask


def _reported(heard: Heard, reported: Mapping[str, str], same_machine: bool) -> Condition:
    """The run's predictions are what these weights hear."""
    other = [name for name, (text, _) in heard.items() if reported.get(name) != text]
    if not other:
        return Condition("reported", "ok", "the run's predictions are what is heard here", len(heard))
    told = f"{len(other)} of {len(heard)} predictions are not what is heard here"
    if not same_machine:
        told += ", on another machine, version or BLAS than the run's"
        return Condition("reported", "inconclusive", told, len(heard), None, other[0])
    return Condition("reported", "violation", told, len(heard), None, other[0])


def _untouched(before: str, after: str) -> Condition:
    state: ConditionState = "ok" if before == after else "violation"
    return Condition("slow weights", state, "the checkpoint's own weights before all of this and after it", 1)

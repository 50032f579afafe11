"""Audit the training of a run: retrain its first updates and check that test data do not influence the weights.

The choice of the checkpoint and the initial weights are read from the run's records.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from mlx.utils import tree_flatten

from thunder import digest
from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.audit.eval_stage import ReadTrackingFeatures
from thunder.acoustic.dataset import utterances
from thunder.acoustic.dataset.utterances import AcousticDataset, AcousticExample
from thunder.acoustic.training.ctc_task import AcousticTask
from thunder.acoustic.trajectory import training_statistics
from thunder.acoustic.trajectory.training_statistics import TrainingStatistics
from thunder.corpora.splits.split_by_reference import PARTS
from thunder.parallel.world import World
from thunder.runs.bundles.audit_record import Condition, ConditionState
from thunder.runs.records.run_record import RunRecord
from thunder.training.loop import train_loop
from thunder.training.train_context import TrainContext

MAX_NAMED = 3
ROUNDING_TOLERANCE = 1e-5  # relative to an array's largest value: another BLAS sums in another order


@dataclass(frozen=True)
class ShortTraining:
    """Result of a short training: SHA-256 of all weights, the statistics, and the ids whose features were read."""

    weights_digest: str
    statistics: TrainingStatistics
    ids_read: frozenset[str]


def audit_pipeline(
    settings: AcousticSettings,
    features: utterances.FeatureSet,
    frozen: Mapping[str, Sequence[str]],
    trace: Mapping[int, float],
    results: Mapping[str, Any],
    statistics: TrainingStatistics,
    updates: int,
    same_machine: bool = True,
) -> list[Condition]:
    """Return every condition of the training of a run.

    frozen: part -> ids in the run's split.json. trace: step -> validation loss in its logs. statistics: from its
    checkpoint.
    """
    dataset = utterances.prepare_dataset(settings, features)
    test_ids = frozenset(example.id for example in dataset.test)
    real, disturbed = train_briefly(settings, dataset, updates), train_briefly(settings, dataset, updates, test_ids)
    return [
        _check_parts(dataset, frozen),
        _check_reads(real, test_ids, updates),
        _check_end_to_end(real, disturbed, updates),
        _check_statistics(real.statistics, statistics, same_machine),
        _check_checkpoint_choice(trace, results),
        _check_initial_weights(settings),
    ]


def train_briefly(
    settings: AcousticSettings, dataset: AcousticDataset, updates: int, noisy: frozenset[str] = frozenset()
) -> ShortTraining:
    """Fit the statistics and train the first updates with validation, by the code that every run uses.

    noisy: ids whose features are replaced with noise; test utterances among them lose their labels too.
    """
    tracked = ReadTrackingFeatures(dataset.features.stores, noisy=noisy)
    test = tuple(_without_text(example) if example.id in noisy else example for example in dataset.test)
    tracked_dataset = replace(dataset, features=tracked, test=test)
    statistics = training_statistics.fit_statistics(settings, tracked, tracked_dataset.train)
    iterations = updates * settings.grad_accumulation_steps
    short_settings = settings.model_copy(
        update={"iters": iterations, "save_every": iterations, "steps_per_eval": iterations}
    )
    task = AcousticTask(short_settings, tracked_dataset, statistics)
    with tempfile.TemporaryDirectory(prefix="thunder-audit-") as scratch:
        train_loop(TrainContext(task, short_settings, World(), RunRecord(Path(scratch))))
    arrays = tree_flatten(task.model.parameters())
    weights = digest.sha256_json({name: digest.sha256_bytes(np.array(array).tobytes()) for name, array in arrays})
    return ShortTraining(weights, statistics, frozenset(tracked.ids_read))


def _without_text(example: AcousticExample) -> AcousticExample:
    return replace(example, text="", labels=())


def _check_parts(dataset: AcousticDataset, frozen: Mapping[str, Sequence[str]]) -> Condition:
    """The parts must be those of the run, and share neither an utterance nor a recording."""
    faults = []
    for part in PARTS:
        current, recorded = {part.id for part in getattr(dataset, part)}, set(frozen.get(part, ()))
        if unexpected := sorted(current - recorded):
            faults.append(f"{unexpected[0]} is in {part} now, but not in split.json")
    for index, part in enumerate(PARTS):
        for other_part in PARTS[index + 1 :]:
            if shared := set(frozen.get(part, ())) & set(frozen.get(other_part, ())):
                faults.append(f"{min(shared)} is in {part} and in {other_part}")
            shared_recordings = _audio_ids(getattr(dataset, part)) & _audio_ids(getattr(dataset, other_part))
            faults += (
                [f"recording {min(shared_recordings)[:12]} is in {part} and in {other_part}"]
                if shared_recordings
                else []
            )
    rows = len(dataset.train) + len(dataset.valid) + len(dataset.test)
    message = (
        "; ".join(faults[:MAX_NAMED]) or "parts equal those of split.json, and share no utterance and no recording"
    )
    return Condition("parts", "violation" if faults else "ok", message, rows, None, next(iter(faults), None))


def _audio_ids(examples: Sequence[AcousticExample]) -> set[str]:
    return {example.audio_id for example in examples if example.audio_id}


def _check_reads(real: ShortTraining, test_ids: frozenset[str], updates: int) -> Condition:
    test_ids_read = sorted(real.ids_read & test_ids)
    message = (
        f"{len(real.ids_read)} utterances were read for statistics, {updates} updates and validation; "
        f"{len(test_ids_read)} of them are test utterances"
    )
    return Condition(
        "reads", "violation" if test_ids_read else "ok", message, len(test_ids), None, next(iter(test_ids_read), None)
    )


def _check_end_to_end(real: ShortTraining, disturbed: ShortTraining, updates: int) -> Condition:
    """With noise and no texts in the test, the weights must be bit-identical."""
    same = (
        real.weights_digest == disturbed.weights_digest
        and _first_difference(real.statistics, disturbed.statistics) is None
    )
    message = (
        f"weights and statistics after {updates} updates, with the real test and with noise and no texts in its place: "
    )
    state: ConditionState = "ok" if same else "violation"
    return Condition("end to end", state, message + ("equal" if same else "different"), 2)


def _first_difference(
    statistics: TrainingStatistics, expected: TrainingStatistics, tolerance: float = 0.0
) -> str | None:
    """Name of the first array that differs by more than `tolerance` times its largest absolute value; None if none
    does.
    """
    for name in (field.name for field in fields(TrainingStatistics)):
        a, b = getattr(statistics, name), getattr(expected, name)
        if a.shape != b.shape or not np.all(np.abs(a - b) <= tolerance * np.abs(b).max(initial=0.0)):
            return name
    return None


def _check_statistics(recomputed: TrainingStatistics, stored: TrainingStatistics, same_machine: bool) -> Condition:
    """Mean, codebook and thresholds in the checkpoint must be those of the training rows."""
    name = _first_difference(recomputed, stored, ROUNDING_TOLERANCE)
    if name is None:
        message = "the checkpoint's statistics equal those of its training rows"
        if last := _first_difference(recomputed, stored):
            message += f", except for the last digits of {last}"
        return Condition("tables", "ok", message, len(fields(TrainingStatistics)))
    message = f"the checkpoint's {name} differs from that of its training rows here"
    if same_machine:
        return Condition("tables", "violation", message, len(fields(TrainingStatistics)), None, name)
    message += "; machine, version or BLAS differ from the run's"
    return Condition("tables", "inconclusive", message, len(fields(TrainingStatistics)), None, name)


def _check_checkpoint_choice(trace: Mapping[int, float], results: Mapping[str, Any]) -> Condition:
    """The tested weights must be the best by validation loss, or the last ones if there was no validation."""
    if not trace:
        return Condition("choice", "ok", "no validation: the last weights were tested, without a choice")
    best, tested = min(trace, key=lambda step: (trace[step], step)), results.get("best_step")
    if best == tested:
        return Condition("choice", "ok", f"step {best} has the lowest validation loss", len(trace))
    message = f"step {tested} was tested, but step {best} has the lowest validation loss"
    return Condition("choice", "violation", message, len(trace), None, f"step {tested}")


def _check_initial_weights(settings: AcousticSettings) -> Condition:
    if settings.start_from is None:
        return Condition("lineage", "ok", "training started from random weights", 1)
    message = f"training started from {settings.start_from}; this audit does not check the data of that checkpoint"
    return Condition("lineage", "inconclusive", message, 1)

"""Did the test have any part in how a run's weights came about? Its beginning is trained anew, and watched.

What cannot be done anew is read from the run's records: which weights were chosen, and what they began with.
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
from thunder.acoustic.audit.eval_stage import Watched
from thunder.acoustic.dataset import utterances
from thunder.acoustic.dataset.utterances import Example, Prepared
from thunder.acoustic.training.ctc_task import AcousticTask
from thunder.acoustic.trajectory import training_statistics as of_training
from thunder.acoustic.trajectory.training_statistics import Tables
from thunder.corpora.splits.split_by_reference import PARTS
from thunder.parallel.world import World
from thunder.runs.bundles.audit_record import Condition, ConditionState
from thunder.runs.records.run_record import RunRecord
from thunder.training.loop import train_loop
from thunder.training.train_context import TrainContext

NAMED = 3
ROUNDED = 1e-5  # of a table's largest number: another BLAS sums in another order


@dataclass(frozen=True)
class Trained:
    """A short training: SHA-256 of all weights, of the tables, and whose features were read."""

    weights: str
    tables: Tables
    read: frozenset[str]


def stage(
    settings: AcousticSettings,
    features: utterances.Features,
    frozen: Mapping[str, Sequence[str]],
    trace: Mapping[int, float],
    results: Mapping[str, Any],
    tables: Tables,
    updates: int,
    same_machine: bool = True,
) -> list[Condition]:
    """Every condition of how a run's weights came about.

    frozen: part -> ids in the run's split.json. trace: step -> validation loss in its logs. tables: in its checkpoint.
    """
    prepared = utterances.prepare(settings, features)
    tests = frozenset(one.id for one in prepared.test)
    real, disturbed = trained(settings, prepared, updates), trained(settings, prepared, updates, tests)
    return [
        _parts(prepared, frozen),
        _read(real, tests, updates),
        _end_to_end(real, disturbed, updates),
        _same_tables(real.tables, tables, same_machine),
        _chosen(trace, results),
        _lineage(settings),
    ]


def trained(
    settings: AcousticSettings, prepared: Prepared, updates: int, noisy: frozenset[str] = frozenset()
) -> Trained:
    """Tables and the first updates with validation, by the run's own code; `noisy`: ids whose features are noise, and
    whose labels are gone where they are of the test."""
    watched = Watched(prepared.features.stores, noisy)
    test = tuple(_blank(one) if one.id in noisy else one for one in prepared.test)
    mine = replace(prepared, features=watched, test=test)
    found = of_training.fit(settings, watched, mine.train)
    iterations = updates * settings.grad_accumulation_steps
    short = settings.model_copy(update={"iters": iterations, "save_every": iterations, "steps_per_eval": iterations})
    task = AcousticTask(short, mine, found)
    with tempfile.TemporaryDirectory(prefix="thunder-audit-") as scratch:
        train_loop(TrainContext(task, short, World(), RunRecord(Path(scratch))))
    arrays = tree_flatten(task.model.parameters())
    weights = digest.sha256_json({name: digest.sha256_bytes(np.array(array).tobytes()) for name, array in arrays})
    return Trained(weights, found, frozenset(watched.read))


def _blank(one: Example) -> Example:
    return replace(one, text="", labels=())


def _parts(prepared: Prepared, frozen: Mapping[str, Sequence[str]]) -> Condition:
    """The parts are the run's own, and share neither an utterance nor a recording."""
    faults = []
    for part in PARTS:
        now, then = {one.id for one in getattr(prepared, part)}, set(frozen.get(part, ()))
        if strangers := sorted(now - then):
            faults.append(f"{strangers[0]} is of {part} now, and was not")
    for at, one in enumerate(PARTS):
        for other in PARTS[at + 1 :]:
            if shared := set(frozen.get(one, ())) & set(frozen.get(other, ())):
                faults.append(f"{min(shared)} stands in {one} and in {other}")
            both = _recordings(getattr(prepared, one)) & _recordings(getattr(prepared, other))
            faults += [f"recording {min(both)[:12]} stands in {one} and in {other}"] if both else []
    rows = len(prepared.train) + len(prepared.valid) + len(prepared.test)
    told = "; ".join(faults[:NAMED]) or "parts are those of split.json, and share no utterance and no recording"
    return Condition("parts", "violation" if faults else "ok", told, rows, None, next(iter(faults), None))


def _recordings(examples: Sequence[Example]) -> set[str]:
    return {one.audio_id for one in examples if one.audio_id}


def _read(real: Trained, tests: frozenset[str], updates: int) -> Condition:
    seen = sorted(real.read & tests)
    told = (
        f"{len(real.read)} utterances were read for tables, {updates} updates and validation, {len(seen)} of the test"
    )
    return Condition("reads", "violation" if seen else "ok", told, len(tests), None, next(iter(seen), None))


def _end_to_end(real: Trained, disturbed: Trained, updates: int) -> Condition:
    """With the test as noise and without its texts, the same weights to the last bit."""
    same = real.weights == disturbed.weights and _unlike(real.tables, disturbed.tables) is None
    told = f"weights and tables after {updates} updates, with the test as it is and as noise without texts: "
    state: ConditionState = "ok" if same else "violation"
    return Condition("end to end", state, told + ("the same" if same else "not the same"), 2)


def _unlike(one: Tables, other: Tables, tolerance: float = 0.0) -> str | None:
    """The first of the tables that differs by more than a share of its largest number."""
    for name in (each.name for each in fields(Tables)):
        a, b = getattr(one, name), getattr(other, name)
        if a.shape != b.shape or not np.all(np.abs(a - b) <= tolerance * np.abs(b).max(initial=0.0)):
            return name
    return None


def _same_tables(mine: Tables, theirs: Tables, same_machine: bool) -> Condition:
    """Means, codebook and limits in the checkpoint are those of the training rows."""
    name = _unlike(mine, theirs, ROUNDED)
    if name is None:
        told = "the checkpoint's tables are those of its training rows"
        if last := _unlike(mine, theirs):
            told += f", but for the last digits of {last}"
        return Condition("tables", "ok", told, len(fields(Tables)))
    told = f"the checkpoint's {name} is not what its training rows give here"
    if same_machine:
        return Condition("tables", "violation", told, len(fields(Tables)), None, name)
    told += ", on another machine, version or BLAS than the run's"
    return Condition("tables", "inconclusive", told, len(fields(Tables)), None, name)


def _chosen(trace: Mapping[int, float], results: Mapping[str, Any]) -> Condition:
    """The weights that were tested are the best by validation, or the last."""
    if not trace:
        return Condition("choice", "ok", "no validation: the last weights are tested, by no choice")
    best, said = min(trace, key=lambda step: (trace[step], step)), results.get("best_step")
    if best == said:
        return Condition("choice", "ok", f"step {best} has the lowest validation loss", len(trace))
    told = f"step {said} was tested, and step {best} has the lowest validation loss"
    return Condition("choice", "violation", told, len(trace), None, f"step {said}")


def _lineage(settings: AcousticSettings) -> Condition:
    if settings.start_from is None:
        return Condition("lineage", "ok", "it began with weights drawn by chance", 1)
    told = f"it began with {settings.start_from}, and what that saw is not looked at here"
    return Condition("lineage", "inconclusive", told, 1)

"""Checkpoints: everything that the next update depends on, checked by digest, whole or absent."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_unflatten

from thunder import digest
from thunder.errors import ArtifactError
from thunder.training.task import Task

if TYPE_CHECKING:
    from thunder.training.loop import State

WEIGHTS, OPTIMIZER, STATE, MANIFEST = (
    "weights.safetensors",
    "optimizer_state.safetensors",
    "trainer_state.json",
    "manifest.json",
)
KEPT = 2
TRANSIENT = ("asked_to_stop", "result")  # of the state: what holds for this process only


def save(root: Path, task: Task, optimizer: optim.Optimizer, state: State) -> Path:
    """Write `step-NNNNNNN` under root (beside, flushed, then renamed) and keep the newest two.

    The order of rows, the learning rate and dropout are functions of (seed, step), so no random state needs saving.
    """
    folder, beside = root / f"step-{state.step:07d}", root / f".step-{state.step:07d}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    mx.save_safetensors(str(beside / WEIGHTS), dict(tree_flatten(task.model.trainable_parameters())))
    mx.save_safetensors(str(beside / OPTIMIZER), dict(tree_flatten(optimizer.state)))
    saved = {field.name: getattr(state, field.name) for field in fields(state) if field.name not in TRANSIENT}
    digest.write_json(beside / STATE, saved)
    for name in (WEIGHTS, OPTIMIZER):
        _flush(beside / name)
    digest.write_json(beside / MANIFEST, {name: digest.of_file(beside / name) for name in (WEIGHTS, OPTIMIZER, STATE)})
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(beside, folder)
    _flush(root)
    for old in steps(root)[:-KEPT]:
        shutil.rmtree(old)
    return folder


def _flush(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def steps(root: Path) -> list[Path]:
    """Checkpoint folders under root, oldest first."""
    return sorted(path for path in root.glob("step-*") if path.is_dir())


def verify(folder: Path) -> None:
    """Raises ArtifactError that names the file which is missing or is not what the manifest says."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder / MANIFEST}: {error}", fix="an older checkpoint beside it is used") from None
    for name in (WEIGHTS, OPTIMIZER, STATE):
        path = folder / name
        if not path.is_file():
            raise ArtifactError(f"{path}: missing", fix="an older checkpoint beside it is used")
        if digest.of_file(path) != manifest.get(name):
            raise ArtifactError(
                f"{path}: its SHA-256 is not the manifest's: torn or changed",
                fix="an older checkpoint beside it is used",
            )


def newest(root: Path, on_damage: Callable[[str], None] = lambda text: None) -> Path | None:
    """The newest checkpoint that verifies; each damaged one on the way is reported.

    Raises ArtifactError where there are checkpoints but none is whole.
    """
    found = steps(root)
    for folder in reversed(found):
        try:
            verify(folder)
            return folder
        except ArtifactError as error:
            on_damage(error.message)
    if found:
        raise ArtifactError(
            f"{root}: none of {len(found)} checkpoints is whole", fix="start the run again without --resume"
        )
    return None


def restore(
    root: Path,
    task: Task,
    optimizer: optim.Optimizer,
    make: Callable[..., State],
    on_damage: Callable[[str], None] = lambda text: None,
) -> State | None:
    """Load the newest whole checkpoint into model and optimizer; None where there is none yet.

    Raises ArtifactError where its tensors are not those of the model.
    """
    folder = newest(root, on_damage)
    if folder is None:
        return None
    weights: dict[str, Any] = mx.load(str(folder / WEIGHTS))  # type: ignore[assignment]
    expected = {name: array.shape for name, array in tree_flatten(task.model.trainable_parameters())}
    found = {name: array.shape for name, array in weights.items()}
    if expected != found:
        names = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise ArtifactError(
            f"{folder / WEIGHTS}: not this model's tensors: {', '.join(names[:5])}",
            fix="resume with the run's own configuration",
        )
    task.model.load_weights(list(weights.items()), strict=False)
    optimizer.init(task.model.trainable_parameters())
    optimizer.state = tree_unflatten(list(mx.load(str(folder / OPTIMIZER)).items()))  # type: ignore[union-attr]
    mx.eval(task.model.trainable_parameters(), optimizer.state)
    return make(**json.loads((folder / STATE).read_text(encoding="utf-8")))

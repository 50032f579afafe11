"""Save and restore checkpoints: all that the next update depends on, checked by digest, whole or absent."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_unflatten

from thunder import digest
from thunder.errors import ArtifactError
from thunder.training.checkpoints import checkpoint_manifest
from thunder.training.state import TrainState
from thunder.training.task import Task

WEIGHTS, OPTIMIZER, STATE = checkpoint_manifest.WEIGHTS, checkpoint_manifest.OPTIMIZER, "trainer_state.json"
MANIFEST = checkpoint_manifest.MANIFEST
BEST = "best"
CHECKPOINTS_KEPT = 2
TRANSIENT_FIELDS = ("asked_to_stop", "result")  # fields of the state that are valid in this process only


def save_checkpoint(
    root: Path,
    task: Task,
    optimizer: optim.Optimizer,
    state: TrainState,
    *,
    fingerprint: Mapping[str, str] | None = None,
    ranks: int = 1,
    best: Path | None = None,
    on_weights_written: Callable[[], None] = lambda: None,
) -> Path:
    """Write `step-NNNNNNN` under root (in a temporary folder, flushed, then renamed) and keep the newest two.

    fingerprint: name -> digest of each input of the run. ranks: as planned. best: folder of the best weights so far;
    the checkpoint holds a copy, since a host that receives the checkpoint has no other one. on_weights_written: called
    when the first of the files is written.
    The order of rows, the learning rate and dropout are functions of (seed, step), so no random state needs saving.
    """
    beside = make_temporary_folder(root, state.step)
    # sorted: after a restart the trees have the same arrays in another order, and the bytes must be the same
    mx.save_safetensors(str(beside / WEIGHTS), dict(sorted(tree_flatten(task.model.trainable_parameters()))))
    on_weights_written()
    mx.save_safetensors(str(beside / OPTIMIZER), dict(sorted(tree_flatten(optimizer.state))))
    saved = {field.name: getattr(state, field.name) for field in fields(state) if field.name not in TRANSIENT_FIELDS}
    digest.write_json(beside / STATE, saved)
    if best is not None and state.best_step is not None and best.is_dir():
        shutil.copytree(best, beside / BEST, ignore=shutil.ignore_patterns(".*"))
    checkpoint_manifest.write_checkpoint_manifest(beside, step=state.step, ranks=ranks, fingerprint=fingerprint or {})
    folder = commit_checkpoint(beside, root, state.step)
    for old in checkpoint_folders(root)[:-CHECKPOINTS_KEPT]:
        shutil.rmtree(old)
    return folder


def make_temporary_folder(root: Path, step: int) -> Path:
    """An empty folder under root to write a checkpoint into; deletes those that killed processes left.

    Only one process of a host writes checkpoints of a run, so that no other process uses these folders.
    """
    for left in root.glob(".step-*"):
        shutil.rmtree(left)
    beside = root / f".step-{step:07d}.{os.getpid()}"
    beside.mkdir(parents=True)
    return beside


def commit_checkpoint(beside: Path, root: Path, step: int) -> Path:
    """Flush a written checkpoint to disk and give it its name; it replaces one of the same step."""
    folder, old = root / f"step-{step:07d}", root / f".step-{step:07d}.old"
    for path in (*beside.rglob("*"), beside):
        digest.fsync_path(path)
    if folder.exists():
        os.replace(folder, old)
    os.replace(beside, folder)
    digest.fsync_path(root)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def checkpoint_folders(root: Path) -> list[Path]:
    """Checkpoint folders under root, oldest first."""
    return sorted(path for path in root.glob("step-*") if path.is_dir())


def verify_checkpoint(folder: Path) -> dict[str, Any]:
    """The manifest of a whole checkpoint.

    Raises ArtifactError that names each file which is missing, truncated, changed (with its tensors) or unknown.
    """
    return checkpoint_manifest.verify_checkpoint_files(folder)


def valid_checkpoints(
    root: Path, on_damage: Callable[[str], None] = lambda text: None
) -> list[tuple[Path, dict[str, Any]]]:
    """The checkpoints that verify, newest first, each with its manifest; each damaged one is reported."""
    valid = []
    for folder in reversed(checkpoint_folders(root)):
        try:
            valid.append((folder, verify_checkpoint(folder)))
        except ArtifactError as error:
            on_damage(error.message)
    return valid


def newest_checkpoint(
    root: Path,
    on_damage: Callable[[str], None] = lambda text: None,
    *,
    fingerprint: Mapping[str, str] | None = None,
    ranks: int = 1,
    force: bool = False,
) -> Path | None:
    """The newest checkpoint that verifies; each damaged one is reported. fingerprint: None accepts any fingerprint.

    Raises ArtifactError where there are checkpoints but none is whole, or where the newest one has another fingerprint
    and `force` is false.
    """
    valid = valid_checkpoints(root, on_damage)
    if not valid:
        if there := len(checkpoint_folders(root)):
            raise all_damaged_error(str(root), there)
        return None
    folder, content = valid[0]
    if fingerprint is not None and (lines := checkpoint_manifest.fingerprint_mismatches(content, fingerprint, ranks)):
        report_mismatches(str(folder), lines, force, on_damage)
    return folder


def all_damaged_error(where: str, count: int) -> ArtifactError:
    """The error where checkpoints are damaged and no whole one is left."""
    return ArtifactError(f"{where}: none of {count} checkpoints is whole", fix="start the run again without --resume")


def report_mismatches(where: str, lines: list[str], force: bool, on_damage: Callable[[str], None]) -> None:
    """Raise ArtifactError for a checkpoint with another fingerprint; with `force` report it instead."""
    text = f"{where}: made from other inputs: {'; '.join(lines)}"
    if not force:
        raise ArtifactError(text, fix="restore the inputs of that run, or take the checkpoint with --force")
    on_damage(f"{text}; taken because of --force")


def restore_checkpoint(
    folder: Path, task: Task, optimizer: optim.Optimizer, make: Callable[..., TrainState]
) -> TrainState:
    """Load a checkpoint that was verified into model and optimizer.

    Raises ArtifactError where its tensors are not those of the model.
    """
    weights: dict[str, Any] = mx.load(str(folder / WEIGHTS))  # type: ignore[assignment]
    expected = {name: array.shape for name, array in tree_flatten(task.model.trainable_parameters())}
    saved = {name: array.shape for name, array in weights.items()}
    if expected != saved:
        names = sorted(name for name in expected.keys() | saved.keys() if expected.get(name) != saved.get(name))
        raise ArtifactError(
            f"{folder / WEIGHTS}: not this model's tensors: {', '.join(names[:5])}",
            fix="resume with the run's own configuration",
        )
    task.model.load_weights(list(weights.items()), strict=False)
    optimizer.init(task.model.trainable_parameters())
    optimizer.state = tree_unflatten(list(mx.load(str(folder / OPTIMIZER)).items()))  # type: ignore[union-attr]
    mx.eval(task.model.trainable_parameters(), optimizer.state)
    return make(**json.loads((folder / STATE).read_text(encoding="utf-8")))


def restore_best_weights(folder: Path, best: Path) -> None:
    """Copy a checkpoint's best weights over those of the run, where it has any and they differ."""
    if not (folder / BEST).is_dir():
        return
    for source in (folder / BEST).rglob("*"):
        target = best / source.relative_to(folder / BEST)
        if source.is_file() and not (target.is_file() and digest.sha256_file(target) == digest.sha256_file(source)):
            target.parent.mkdir(parents=True, exist_ok=True)
            digest.write_atomically(target, source.read_bytes())

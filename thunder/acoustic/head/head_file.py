"""Save and load a head as one file: tensors, training statistics, and the features and labels it was trained for."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from thunder import digest
from thunder.acoustic import labels
from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.head.ctc_head import CTCHead
from thunder.acoustic.trajectory.training_statistics import PREFIX, TrainingStatistics
from thunder.config import SettingsLayer, build_settings
from thunder.errors import ArtifactError, ModelError, ThunderError

FORMAT = "thunder.acoustic/1"
HEAD_FILE = "head.safetensors"
TENSOR_PREFIX = "head."
_RETRAIN = "retrain, or give a checkpoint of the same {}"


@dataclass(frozen=True)
class HeadOrigin:
    """What a head was trained for. width: D of the features. recipe, recipe_digest: how they were made."""

    settings: AcousticSettings
    width: int
    recipe: dict[str, Any]
    recipe_digest: str

    def as_metadata(self) -> dict[str, str]:
        """Metadata of the file's header; every value is JSON."""
        values = {
            "settings": self.settings.resolved(),
            "width": self.width,
            "recipe": self.recipe,
            "recipe_digest": self.recipe_digest,
            "vocabulary": digest.sha256_json(labels.label_vocabulary(self.settings.script)),
        }
        return {"format": FORMAT} | {name: digest.canonical_json(value).decode() for name, value in values.items()}


@dataclass(frozen=True)
class LoadedHead:
    """A head that is ready to use, its training statistics, and what it was trained for."""

    model: CTCHead
    statistics: TrainingStatistics
    origin: HeadOrigin


def save_head(path: Path, model: CTCHead, statistics: TrainingStatistics, origin: HeadOrigin) -> None:
    """Write a head atomically; the same head gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {TENSOR_PREFIX + name: array for name, array in tree_flatten(model.parameters())}
    arrays |= {name: mx.array(array) for name, array in statistics.arrays().items()}
    temporary = path.with_name(f".{os.getpid()}.tmp.safetensors")
    mx.save_safetensors(str(temporary), dict(sorted(arrays.items())), origin.as_metadata())
    os.replace(temporary, path)


def load_head(path: Path) -> LoadedHead:
    """Read a head.

    Raises ModelError if there is no such file; ArtifactError if it is damaged, if its alphabet differs from this
    version's, or if its tensors do not match its settings.
    """
    arrays, origin = _read_file(path)
    model = CTCHead(origin.settings, origin.width, labels.ALPHABETS[origin.settings.script].size)
    _load_tensors(
        model, {name: array for name, array in arrays.items() if name.startswith(TENSOR_PREFIX)}, path, origin
    )
    try:
        statistics = TrainingStatistics.from_arrays({n: np.array(a) for n, a in arrays.items() if n.startswith(PREFIX)})
    except KeyError as error:
        raise ArtifactError(f"{path}: lacks {error}", fix="copy the run's checkpoint again") from None
    return LoadedHead(model, statistics, origin)


def load_initial_weights(path: Path, model: CTCHead, expected: HeadOrigin) -> None:
    """Load a checkpoint's weights into a model; parameters that only the model has (an adapter) stay as they are.

    Raises ArtifactError that names the difference if the checkpoint has another head, alphabet or recipe.
    """
    arrays, origin = _read_file(path)
    pairs = (
        ("head", origin.settings.head, expected.settings.head),
        ("alphabet", origin.settings.script, expected.settings.script),
    )
    for name, stored, expected_value in pairs:
        if stored != expected_value:
            raise ArtifactError(
                f"{path}: has another {name}: {stored}, expected {expected_value}", fix=_RETRAIN.format(name)
            )
    if origin.recipe_digest != expected.recipe_digest:
        raise ArtifactError(
            f"{path}: has another recipe: {origin.recipe_digest[:16]}, expected {expected.recipe_digest[:16]}: "
            f"{_recipe_differences(origin.recipe, expected.recipe)}",
            fix=_RETRAIN.format("recipe"),
        )
    initial = dict(tree_flatten(model.parameters()))
    known = {name: array for name, array in arrays.items() if name.removeprefix(TENSOR_PREFIX) in initial}
    _load_tensors(model, {TENSOR_PREFIX + name: array for name, array in initial.items()} | known, path, origin)


def _recipe_differences(stored: dict[str, Any], expected: dict[str, Any]) -> str:
    """Such as 'subsample 4, expected 2'; subsample and kind decide the frame rate."""
    names = [name for name in {**stored, **expected} if stored.get(name) != expected.get(name)]
    return (
        "; ".join(f"{name} {stored.get(name)}, expected {expected.get(name)}" for name in names) or "of another version"
    )


def _read_file(path: Path) -> tuple[dict[str, mx.array], HeadOrigin]:
    if not path.is_file():
        raise ModelError(f"{path}: no such checkpoint", fix="give a run, or its best.safetensors")
    try:
        arrays, metadata = mx.load(str(path), return_metadata=True)
        if metadata.get("format") != FORMAT:
            raise ValueError(f"format {metadata.get('format')!r}, not {FORMAT!r}")
        values = {name: json.loads(metadata[name]) for name in ("settings", "width", "recipe", "recipe_digest")}
        settings, _ = build_settings(AcousticSettings, [SettingsLayer(str(path), values.pop("settings"))])
        vocabulary = json.loads(metadata["vocabulary"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path}: not a checkpoint of an acoustic head: {error}", fix="copy the file again"
        ) from None
    except ThunderError as error:
        raise ArtifactError(
            f"{path}: its settings: {error.message}", fix="read it with the version that wrote it"
        ) from None
    if vocabulary != digest.sha256_json(labels.label_vocabulary(settings.script)):
        raise ArtifactError(
            f"{path}: its {settings.script} alphabet differs from this version's",
            fix=_RETRAIN.format("alphabet"),
        )
    return arrays, HeadOrigin(settings, **values)


def _load_tensors(model: CTCHead, arrays: dict[str, mx.array], path: Path, origin: HeadOrigin) -> None:
    """Load tensors by name. Raises ArtifactError that lists the ones which do not match."""
    stored = {name.removeprefix(TENSOR_PREFIX): array for name, array in arrays.items()}
    expected = dict(tree_flatten(model.parameters()))
    names = sorted(
        name
        for name in expected.keys() | stored.keys()
        if name not in expected or name not in stored or expected[name].shape != stored[name].shape
    )
    if names:
        raise ArtifactError(
            f"{path}: not the tensors of a {origin.settings.head} head ({origin.settings.mode_name}, width "
            f"{origin.width}): {', '.join(names[:5])}",
            fix=_RETRAIN.format("head"),
        )
    model.load_weights(list(stored.items()), strict=True)
    mx.eval(model.parameters())

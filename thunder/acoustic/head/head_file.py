"""A head in one file: its tensors, its tables, and for what features and labels it was made."""

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
from thunder.acoustic.head.ctc_head import Head
from thunder.acoustic.trajectory.training_statistics import PREFIX, Tables
from thunder.config import SettingsLayer, build_settings
from thunder.errors import ArtifactError, ModelError, ThunderError

FORMAT = "thunder.acoustic/1"
NAME = "head.safetensors"
HEAD = "head."
_NEW = "train anew, or give a checkpoint of the same {}"


@dataclass(frozen=True)
class Origin:
    """What a head was made for. width: D of the features. recipe, recipe_digest: how they were made."""

    settings: AcousticSettings
    width: int
    recipe: dict[str, Any]
    recipe_digest: str

    def as_metadata(self) -> dict[str, str]:
        """For the file's header; all of it JSON."""
        said = {
            "settings": self.settings.resolved(),
            "width": self.width,
            "recipe": self.recipe,
            "recipe_digest": self.recipe_digest,
            "vocabulary": digest.sha256_json(labels.vocabulary(self.settings.script)),
        }
        return {"format": FORMAT} | {name: digest.canonical_json(value).decode() for name, value in said.items()}


@dataclass(frozen=True)
class Loaded:
    """A head ready to use, its tables, and what it was made for."""

    model: Head
    tables: Tables
    origin: Origin


def save(path: Path, model: Head, tables: Tables, origin: Origin) -> None:
    """Write a head, whole or not at all; the same head gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {HEAD + name: array for name, array in tree_flatten(model.parameters())}
    arrays |= {name: mx.array(array) for name, array in tables.arrays().items()}
    beside = path.with_name(f".{os.getpid()}.tmp.safetensors")
    mx.save_safetensors(str(beside), dict(sorted(arrays.items())), origin.as_metadata())
    os.replace(beside, path)


def load(path: Path) -> Loaded:
    """Read a head.

    Raises ModelError where there is no such file, ArtifactError where it is damaged, of an alphabet that has changed,
    or its tensors are not those of the head that it says it is.
    """
    arrays, origin = _read(path)
    model = Head(origin.settings, origin.width, labels.ALPHABETS[origin.settings.script].size)
    _take(model, {name: array for name, array in arrays.items() if name.startswith(HEAD)}, path, origin)
    try:
        tables = Tables.from_arrays({n: np.array(a) for n, a in arrays.items() if n.startswith(PREFIX)})
    except KeyError as error:
        raise ArtifactError(f"{path}: lacks {error}", fix="take the checkpoint of the run anew") from None
    return Loaded(model, tables, origin)


def start_from(path: Path, model: Head, wanted: Origin) -> None:
    """Put the weights of a checkpoint into a model; what only the model has (an adapter) stays as it is.

    Raises ArtifactError that names how it is of another head, alphabet or recipe.
    """
    arrays, origin = _read(path)
    pairs = (
        ("head", origin.settings.head, wanted.settings.head),
        ("alphabet", origin.settings.script, wanted.settings.script),
        ("recipe", origin.recipe_digest[:16], wanted.recipe_digest[:16]),
    )
    for what, theirs, mine in pairs:
        if theirs != mine:
            raise ArtifactError(f"{path}: is of another {what}: {theirs}, not {mine}", fix=_NEW.format(what))
    mine = dict(tree_flatten(model.parameters()))
    known = {name: array for name, array in arrays.items() if name.removeprefix(HEAD) in mine}
    _take(model, {HEAD + name: array for name, array in mine.items()} | known, path, origin)


def _read(path: Path) -> tuple[dict[str, mx.array], Origin]:
    if not path.is_file():
        raise ModelError(f"{path}: no such checkpoint", fix="name a run, or its best.safetensors")
    try:
        arrays, said = mx.load(str(path), return_metadata=True)
        if said.get("format") != FORMAT:
            raise ValueError(f"format {said.get('format')!r}, not {FORMAT!r}")
        values = {name: json.loads(said[name]) for name in ("settings", "width", "recipe", "recipe_digest")}
        settings, _ = build_settings(AcousticSettings, [SettingsLayer(str(path), values.pop("settings"))])
        vocabulary = json.loads(said["vocabulary"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: no checkpoint of an acoustic head: {error}", fix="take the file anew") from None
    except ThunderError as error:
        raise ArtifactError(f"{path}: its settings: {error.message}", fix="read it with the version it is of") from None
    if vocabulary != digest.sha256_json(labels.vocabulary(settings.script)):
        raise ArtifactError(
            f"{path}: its {settings.script} alphabet has other labels than this version's",
            fix=_NEW.format("alphabet"),
        )
    return arrays, Origin(settings, **values)


def _take(model: Head, arrays: dict[str, mx.array], path: Path, origin: Origin) -> None:
    """Load tensors by name. Raises ArtifactError that names those which do not fit."""
    found = {name.removeprefix(HEAD): array for name, array in arrays.items()}
    wanted = dict(tree_flatten(model.parameters()))
    names = sorted(
        name
        for name in wanted.keys() | found.keys()
        if name not in wanted or name not in found or wanted[name].shape != found[name].shape
    )
    if names:
        raise ArtifactError(
            f"{path}: not the tensors of a {origin.settings.head} head ({origin.settings.mode_name}, width "
            f"{origin.width}): {', '.join(names[:5])}",
            fix=_NEW.format("head"),
        )
    model.load_weights(list(found.items()), strict=True)
    mx.eval(model.parameters())

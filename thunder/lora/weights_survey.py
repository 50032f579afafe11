"""Find the weights under a path and the manifest that describes each of them, and check them all. Needs no MLX."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thunder.errors import ArtifactError, UsageError
from thunder.lora import adapter_check, adapter_files
from thunder.runs.bundles import bundle, bundle_checks
from thunder.runs.records.run_record import ENVIRONMENT, RESULTS
from thunder.training.checkpoints import checkpoint_manifest, weights_check
from thunder.training.checkpoints.weights_check import WeightsCheck

CHECKPOINTS, BEST = "checkpoints", "best"


@dataclass(frozen=True)
class WeightsSurvey:
    """The checks of one checkpoint, adapter or file of weights."""

    path: Path
    checks: tuple[WeightsCheck, ...]


def survey_weights(path: Path, base_sha256: str | None = None) -> list[WeightsSurvey]:
    """Check a run's weights, a checkpoint, an adapter or one safetensors file.

    base_sha256: of the base that adapters must have been trained on; default: the one in the run's environment.json.
    Raises UsageError where the path is none of these.
    """
    if path.is_file():
        return [_of_file(path, base_sha256)]
    if _is_checkpoint(path):
        return [WeightsSurvey(path, tuple(weights_check.check_checkpoint(path, _before(path))))]
    if (path / adapter_files.CONFIG).is_file():
        return [_of_adapter(path, base_sha256)]
    steps = sorted((path / CHECKPOINTS).glob("step-*"))
    found = [each for step in steps for each in survey_weights(step)] if steps else []
    files = [file for file in path.rglob("*.safetensors") if CHECKPOINTS not in file.relative_to(path).parts]
    found += [_of_file(file, base_sha256) for file in sorted(files)]
    if not found:
        raise UsageError(f"{path}: no checkpoint, adapter or weights in it", fix="name a run, a checkpoint or a file")
    return found


def _is_checkpoint(folder: Path) -> bool:
    return folder.name.startswith("step-") or (folder / checkpoint_manifest.WEIGHTS).is_file()


def _before(folder: Path) -> Path | None:
    """The checkpoint before this one in the same folder."""
    earlier = sorted(each for each in folder.parent.glob("step-*") if each.name < folder.name)
    return earlier[-1] if earlier else None


def _of_file(path: Path, base_sha256: str | None) -> WeightsSurvey:
    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: not a safetensors file", fix="name a run, a checkpoint or a .safetensors file")
    if path.name == adapter_files.WEIGHTS:
        return _of_adapter(path.parent, base_sha256)
    if (path.parent / checkpoint_manifest.MANIFEST).is_file() and _is_checkpoint(path.parent):
        whole = weights_check.check_checkpoint(path.parent, _before(path.parent))
        return WeightsSurvey(path, tuple(check for check in whole if check.file in (path.name, path.parent.name)))
    recorded, sha256 = _sealed(path)
    if recorded is None and sha256 is None and path.name == bundle_checks.BEST:
        sha256 = bundle_checks.json_object(path.parent / RESULTS, []).get("checkpoint_sha256")
    return WeightsSurvey(path, tuple(weights_check.check_weights_file(path, recorded, sha256)))


def _of_adapter(folder: Path, base_sha256: str | None) -> WeightsSurvey:
    file = folder / adapter_files.WEIGHTS
    recorded, sha256 = _sealed(file)
    if recorded is None and sha256 is None:
        recorded, sha256 = _checkpointed(folder)
    checks = adapter_check.check_adapter(folder, base_sha256 or _base_of_run(folder), recorded, sha256)
    return WeightsSurvey(file, tuple(checks))


def _sealed(path: Path) -> tuple[Mapping[str, Any] | None, str | None]:
    """(tensors, SHA-256) of a file in the manifest of the sealed run that it belongs to."""
    for folder in list(path.parents)[:3]:
        try:
            content = bundle.read_manifest(folder)
        except ArtifactError:
            continue
        name = path.relative_to(folder).as_posix()
        if name in content["files"]:
            return content["tensors"].get(name), content["files"][name]["sha256"]
    return None, None


def _checkpointed(folder: Path) -> tuple[Mapping[str, Any] | None, str | None]:
    """(tensors, SHA-256) of an adapter in the newest checkpoint of its run."""
    best = folder.name == BEST
    root = (folder.parent if best else folder).parent
    for step in sorted((root / CHECKPOINTS).glob("step-*"), reverse=True):
        try:
            content = checkpoint_manifest.read_checkpoint_manifest(step)
        except ArtifactError:
            continue
        if best:
            return None, content["files"].get(f"{BEST}/{adapter_files.WEIGHTS}", {}).get("sha256")
        return content["tensors"].get(checkpoint_manifest.WEIGHTS), None
    return None, None


def _base_of_run(folder: Path) -> str | None:
    """SHA-256 of the base that the run of an adapter was started with."""
    for root in list(folder.parents)[:3]:
        try:
            environment = json.loads((root / ENVIRONMENT).read_text(encoding="utf-8"))
            return str(environment["base"]["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None

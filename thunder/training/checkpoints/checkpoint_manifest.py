"""Manifest of a checkpoint: format, step, fingerprint, and the digest of every file and tensor. Needs no MLX.

The manifest has one byte form and holds a checksum of its content, so that every changed byte of a checkpoint is
detected: by that checksum, or by the digest of a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thunder import digest, tensor_digests
from thunder.errors import ArtifactError

MANIFEST = "manifest.json"
WEIGHTS, OPTIMIZER = "weights.safetensors", "optimizer_state.safetensors"
FORMAT = 1
KEYS = {"format", "step", "ranks", "ground", "files", "tensors", "checksum"}
TENSORS_NAMED = 5
_FIX = "an older checkpoint beside it is used, where there is one"


def render_manifest(content: Mapping[str, Any]) -> bytes:
    """The one byte form of a manifest; adds the checksum to its content."""
    return digest.dump_with_checksum(content)


def write_checkpoint_manifest(folder: Path, *, step: int, ranks: int, fingerprint: Mapping[str, str]) -> None:
    """Describe every file in the folder; the manifest is written last, so that a folder with one is whole."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    content = {
        "format": FORMAT,
        "step": step,
        "ranks": ranks,
        "ground": dict(fingerprint),
        "files": {
            name: {"sha256": digest.sha256_file(path), "bytes": path.stat().st_size} for name, path in names.items()
        },
        # best/ is the user's copy; its file digest is enough
        "tensors": {
            name: tensor_digests.file_tensor_digests(path)
            for name, path in names.items()
            if path.suffix == ".safetensors" and path.parent == folder
        },
    }
    digest.write_atomically(folder / MANIFEST, render_manifest(content))


def read_checkpoint_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint folder.

    Raises ArtifactError where it is missing, torn, changed, of another format, or not ours.
    """
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: {'missing' if not path.exists() else error.strerror}", fix=_FIX) from None
    return parse_checkpoint_manifest(text, str(path))


def parse_checkpoint_manifest(text: bytes, name: str) -> dict[str, Any]:
    """The content of a manifest's bytes. name: of the manifest, for errors. Raises as `read_checkpoint_manifest`."""
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("not a manifest of ours")
        if "checksum" not in content and "format" not in content:
            raise ValueError(f"format 0 (no `format` key); this version reads {FORMAT}")
        if render_manifest(content) != text:
            raise ValueError("its checksum does not hold: torn or changed")
        if content.get("format") != FORMAT:
            raise ValueError(f"format {content.get('format')}; this version reads {FORMAT}")
        if content.keys() != KEYS:
            raise ValueError(f"not a manifest of ours: its keys are {', '.join(sorted(content))}")
    except (ValueError, RecursionError) as error:
        torn = "" if type(error) is ValueError else "torn or changed, or not ours: "
        raise ArtifactError(f"{name}: {torn}{error}", fix=_FIX) from None
    return content


def manifest_sha256(folder: Path) -> str:
    """The SHA-256 of a checkpoint's manifest: checkpoints with the same one are byte-identical."""
    return digest.sha256_file(folder / MANIFEST)


def verify_checkpoint_files(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, after a check of every file against it.

    Raises ArtifactError that names each file which is missing, truncated or changed, and its changed tensors.
    """
    content = read_checkpoint_manifest(folder)
    faults = []
    # a folder that is being written has another name, and is verified too
    if folder.name.startswith("step-") and folder.name != f"step-{content['step']:07d}":
        faults.append(f"{folder / MANIFEST}: it is of step {content['step']}")
    for name, recorded in content["files"].items():
        fault = _fault(folder / name, recorded, content["tensors"].get(name))
        if fault:
            faults.append(f"{folder / name}: {fault}")
    if faults:
        raise ArtifactError("; ".join(faults), fix=_FIX)
    return content


def _fault(path: Path, recorded: Mapping[str, Any], tensors: dict[str, Any] | None) -> str:
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    if size != recorded["bytes"]:
        kind = "truncated" if size < recorded["bytes"] else "too long"
        return f"{kind}: {size} bytes, the manifest says {recorded['bytes']}"
    with path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() == recorded["sha256"]:
            return ""
    names = tensor_digests.differing_tensors(path, tensors) if tensors else []
    more = f" and {len(names) - TENSORS_NAMED} more" if len(names) > TENSORS_NAMED else ""
    where = f", in {', '.join(names[:TENSORS_NAMED])}{more}" if names else ""
    return f"its SHA-256 is not the manifest's: changed{where}"


def fingerprint_mismatches(content: Mapping[str, Any], fingerprint: Mapping[str, str], ranks: int) -> list[str]:
    """One text, old -> new, for each input in which a checkpoint's fingerprint differs from the run's (pure)."""
    saved: dict[str, str] = content["ground"]
    lines = [
        f"{key}: {saved.get(key, '(absent)')[:12]} -> {fingerprint.get(key, '(absent)')[:12]}"
        for key in sorted(saved.keys() | fingerprint.keys())
        if saved.get(key) != fingerprint.get(key)
    ]
    if content["ranks"] != ranks:
        lines.append(f"planned ranks: {content['ranks']} -> {ranks}")
    return lines

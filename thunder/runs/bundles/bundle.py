"""Verify a finished run and seal it: all files present, rows recounted, digests in a manifest."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thunder import digest, tensor_digests
from thunder.errors import ArtifactError, UsageError, combined_error
from thunder.runs.bundles import bundle_checks
from thunder.runs.bundles.bundle_checks import BEST, BY_PARTITION, RESOLVED, SPLIT, VOCAB, Check
from thunder.runs.bundles.scored_rows import PREDICTIONS, PROPOSALS, REFERENCES, ScoredRow
from thunder.runs.records import run_record
from thunder.runs.records.registry import PLAN
from thunder.runs.records.run_record import CONFIG, ENVIRONMENT, LOG, METRICS, RESULTS

MANIFEST = "manifest.json"
FORMAT = 1
MANIFEST_KEYS = {"format", "kind", "run", "rows", "files", "tensors", "checksum"}
FAULTS_SHOWN = 5  # faults that an error lists
OWN_MANIFESTS = "checkpoints"  # its files have their own manifests, with a digest for each tensor
_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class RunKind:
    """A kind of run: its required files (one of a tuple is enough) and the check of their contents."""

    name: str
    required: tuple[str | tuple[str, ...], ...]
    check: Check


_ALWAYS: tuple[str | tuple[str, ...], ...] = (RESULTS, LOG, (RESOLVED, CONFIG), ENVIRONMENT)
RECOGNIZER = RunKind(
    "recogniser",
    (*_ALWAYS, "run.log", SPLIT, VOCAB, (BEST, "best.pt"), PREDICTIONS, REFERENCES, BY_PARTITION),
    bundle_checks.check_recognizer_run,
)
ADAPTER = RunKind(
    "adapter",
    (*_ALWAYS, PLAN, METRICS, "adapters/adapters.safetensors", "adapters/adapter_config.json"),
    bundle_checks.check_corrector_run,
)
BASE = RunKind("base", (*_ALWAYS, PLAN, METRICS), bundle_checks.check_base_run)
EVALUATION = RunKind("evaluation", (RESULTS, PROPOSALS), bundle_checks.check_evaluation)
KIND_OF_JOB = {"asr": RECOGNIZER, "train": ADAPTER, "pretrain": BASE}  # by the value of 'job' in plan.json


@dataclass(frozen=True)
class BundleReport:
    """The result of a bundle's checks.

    sealed: SHA-256 of its manifest, None where it has none. rows: test rows that were recounted. skipped: checks that
    did not run, with the reason. notes: remarks that are not faults.
    """

    folder: Path
    kind: str
    sealed: str | None
    rows: int
    faults: list[str]
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def run_kind(folder: Path) -> RunKind:
    """Return the kind of a run, from its plan, or from its files where another tool made it.

    Raises UsageError where the folder is not a finished run of a known kind.
    """
    plan = bundle_checks.json_object(folder / PLAN, []) if (folder / PLAN).is_file() else {}
    kind = KIND_OF_JOB.get(str(plan.get("job")))
    if kind:
        return kind
    if any((folder / name).exists() for name in (REFERENCES, SPLIT, BY_PARTITION)):
        return RECOGNIZER
    if (folder / "adapters").is_dir():
        return ADAPTER
    if (folder / PROPOSALS).is_file():
        return EVALUATION
    raise UsageError(f"{folder}: not a run of a known kind", fix="name a folder in runs/ that training wrote")


def bundle_faults(folder: Path) -> list[str]:
    """List all faults of a bundle; empty where it is intact. Raises as `inspect_bundle`."""
    return inspect_bundle(folder).faults


def inspect_bundle(folder: Path) -> BundleReport:
    """Check a bundle: its files, their agreement with each other, and the manifest where it is sealed.

    Raises UsageError where the folder is not a run.
    """
    return inspect_bundle_with_rows(folder)[0]


def inspect_bundle_with_rows(folder: Path) -> tuple[BundleReport, list[ScoredRow]]:
    """Return the report of `inspect_bundle` and the test rows that were recounted."""
    kind = run_kind(folder)
    faults = [
        f"{path.relative_to(folder)}: a symbolic link, not a file" for path in folder.rglob("*") if path.is_symlink()
    ]
    missing = [names for names in kind.required if not _has_any(folder, names)]
    faults += [f"{names if isinstance(names, str) else ' or '.join(names)}: missing" for names in missing]
    rows: list[ScoredRow] = []
    row_faults, skipped, notes = [], [], []
    if missing:
        skipped.append("rows and results were not recomputed: files are missing")
    else:
        rows, row_faults = kind.check(folder)
        faults += bundle_checks.unreadable_files(folder)
    sealed = None
    if (folder / MANIFEST).exists():
        try:
            content = read_manifest(folder)
        except ArtifactError as error:
            faults.append(error.message)
        else:
            sealed = digest.sha256_file(folder / MANIFEST)
            faults += _changed_files(folder, content)
            notes = _uncovered_files(folder, content)
    else:
        skipped.append("digests: the run is not sealed")
    return BundleReport(folder, kind.name, sealed, len(rows), [*faults, *row_faults], skipped, notes), rows


def refuse_bundle_faults(verdict: BundleReport) -> None:
    """Raise ArtifactError with the first five faults of a bundle, where it has any."""
    if verdict.faults:
        headline = f"{verdict.folder}: verification failed:"
        raise combined_error(
            ArtifactError, headline, verdict.faults, "run it again, or copy it from an intact copy", FAULTS_SHOWN
        )


def seal_bundle(folder: Path) -> str:
    """Verify a run, write its manifest, make its files read-only; return the manifest's SHA-256.

    The rename of the manifest seals the run. A crash before the rename leaves the run unsealed and unchanged. A crash
    after it leaves the run sealed, and a second call makes the remaining files read-only.
    Raises ArtifactError with the first five faults, UsageError where a launcher holds the run.
    """
    with run_record.lock_run(folder):
        # digests first: a file that changes during the inspection then differs from its sealed digest and is detected
        contents = None if manifest_digest(folder) else describe_files(folder)
        verdict = inspect_bundle(folder)
        refuse_bundle_faults(verdict)
        if contents:
            for leftover in folder.glob(f".{MANIFEST}.*.tmp"):
                leftover.unlink()
            header = {"format": FORMAT, "kind": verdict.kind, "run": folder.name, "rows": verdict.rows}
            digest.write_atomically(folder / MANIFEST, digest.dump_with_checksum(header | contents))
        for name in (*read_manifest(folder)["files"], MANIFEST):
            path = folder / name
            path.chmod(path.stat().st_mode & ~_WRITE)
    return digest.sha256_file(folder / MANIFEST)


def describe_files(folder: Path) -> dict[str, Any]:
    """Return digest and size of every file of a run, and digests of the tensors in its weights.

    Raises ArtifactError where a .safetensors file is damaged.
    """
    names = [path.relative_to(folder).as_posix() for path in _files(folder)]
    weights = [name for name in names if name.endswith(".safetensors") and not name.startswith(f"{OWN_MANIFESTS}/")]
    tensors = {}
    for name in weights:
        try:
            tensors[name] = tensor_digests.file_tensor_digests(folder / name)
        except ValueError as error:
            raise ArtifactError(f"{folder / name}: incomplete safetensors file: {error}", fix="run it again") from None
    return {"files": {name: _digest_and_size(folder / name) for name in names}, "tensors": tensors}


def manifest_digest(folder: Path) -> str | None:
    """Return the SHA-256 of a bundle's manifest, None where it has no intact one; listed files are not read."""
    try:
        read_manifest(folder)
    except ArtifactError:
        return None
    return digest.sha256_file(folder / MANIFEST)


def refuse_sealed(folder: Path) -> None:
    """Raise UsageError where a run has a manifest, even a damaged one: nothing may be written to it."""
    if (folder / MANIFEST).exists():
        raise UsageError(f"{folder.name} is sealed: its files must not change", fix="start a new run")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a bundle's manifest.

    Raises ArtifactError where it is missing, torn, changed, or of another format.
    """
    path = folder / MANIFEST
    try:
        content = digest.read_with_checksum(path)
        if content.get("format") != FORMAT or content.keys() != MANIFEST_KEYS:
            raise ValueError(f"not a bundle manifest of format {FORMAT}")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArtifactError(f"{path}: {reason}", fix=f"thunder bundle seal {folder}") from None
    return content


def _files(folder: Path) -> list[Path]:
    """List the files of a bundle: all but hidden files (locks, temporary files) and the manifest itself."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path != folder / MANIFEST
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _has_any(folder: Path, names: str | tuple[str, ...]) -> bool:
    return any((folder / name).is_file() for name in ((names,) if isinstance(names, str) else names))


def _digest_and_size(path: Path) -> dict[str, Any]:
    return {"sha256": digest.sha256_file(path), "bytes": path.stat().st_size}


def _changed_files(folder: Path, content: Mapping[str, Any]) -> list[str]:
    """List the sealed files that have changed, with the tensors that differ."""
    faults = []
    for name, recorded in content["files"].items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{name}: missing; the manifest lists it")
        elif (size := path.stat().st_size) != recorded["bytes"]:
            faults.append(f"{name}: {size} bytes, the manifest has {recorded['bytes']}")
        elif digest.sha256_file(path) != recorded["sha256"]:
            tensors = content["tensors"].get(name)
            names = tensor_digests.differing_tensors(path, tensors) if tensors else []
            faults.append(f"{name}: changed since it was sealed{_named_tensors(names)}")
    return faults


def _named_tensors(names: Iterable[str]) -> str:
    first = list(names)
    return f", in {', '.join(first[:FAULTS_SHOWN])}{' and more' if len(first) > FAULTS_SHOWN else ''}" if first else ""


def _uncovered_files(folder: Path, content: Mapping[str, Any]) -> list[str]:
    """List files that were added after the seal, and sealed files that are still writable."""
    later = [path.relative_to(folder).as_posix() for path in _files(folder)]
    later = [name for name in later if name not in content["files"]]
    notes = (
        [f"{len(later)} files were added after sealing, not in the manifest: {', '.join(later[:3])}"] if later else []
    )
    loose = [name for name in content["files"] if (folder / name).is_file() and (folder / name).stat().st_mode & _WRITE]
    if loose:
        notes.append(f"{len(loose)} files are still writable, such as {loose[0]}: seal the run again")
    return notes

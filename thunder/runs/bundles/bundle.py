"""A finished run as one thing that can be trusted: every artifact there, counted again, sealed by digest."""

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
FAULTS_SHOWN = 5  # faults that an error names
OWN_MANIFESTS = "checkpoints"  # what lies there has manifests of its own, tensor by tensor
_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class RunKind:
    """A kind of run: which files it leaves (one of a tuple is enough), and what they have to say of each other."""

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
KIND_OF_JOB = {"asr": RECOGNIZER, "train": ADAPTER, "pretrain": BASE}  # by the word in plan.json


@dataclass(frozen=True)
class BundleReport:
    """What became of a bundle's checks. sealed: SHA-256 of its manifest, None where it has none.

    rows: test rows that were counted again. skipped: checks that did not run, and why. notes: what is no fault.
    """

    folder: Path
    kind: str
    sealed: str | None
    rows: int
    faults: list[str]
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def run_kind(folder: Path) -> RunKind:
    """The kind of a run, by its plan, or by what lies there where somebody else made it.

    Raises UsageError where it is no finished run that could be a bundle.
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
    raise UsageError(f"{folder}: no run of a known kind", fix="name a folder in runs/ that training made")


def bundle_faults(folder: Path) -> list[str]:
    """Everything that is wrong with a bundle; nothing where it can be trusted. Raises as `inspect`."""
    return inspect_bundle(folder).faults


def inspect_bundle(folder: Path) -> BundleReport:
    """Check a bundle: its files, what they say of each other, and the manifest where it is sealed.

    Raises UsageError where the folder is no run.
    """
    return inspect_bundle_with_rows(folder)[0]


def inspect_bundle_with_rows(folder: Path) -> tuple[BundleReport, list[ScoredRow]]:
    """As `inspect`, with the test rows that were counted again."""
    kind = run_kind(folder)
    faults = [f"{path.relative_to(folder)}: a link, not a file" for path in folder.rglob("*") if path.is_symlink()]
    missing = [one for one in kind.required if not _has_any(folder, one)]
    faults += [f"{one if isinstance(one, str) else ' or '.join(one)}: missing" for one in missing]
    rows: list[ScoredRow] = []
    said, skipped, notes = [], [], []
    if missing:
        skipped.append("rows and results were not counted again: files are missing")
    else:
        rows, said = kind.check(folder)
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
        skipped.append("digests: it is not sealed")
    return BundleReport(folder, kind.name, sealed, len(rows), [*faults, *said], skipped, notes), rows


def refuse_bundle_faults(verdict: BundleReport) -> None:
    """Raise ArtifactError with the first five of a bundle's faults, where it has any."""
    if verdict.faults:
        headline = f"{verdict.folder}: cannot be trusted:"
        raise combined_error(
            ArtifactError, headline, verdict.faults, "run it again, or take it from where it is whole", FAULTS_SHOWN
        )


def seal_bundle(folder: Path) -> str:
    """Verify a run, write its manifest, make its files read-only; returns the manifest's SHA-256.

    The manifest's renaming is the one moment at which a run becomes sealed. What crashes before it leaves the run as it
    was; what crashes after it leaves it sealed, and sealing again makes the rest read-only.
    Raises ArtifactError with the first five faults, UsageError where a launcher holds the run.
    """
    with run_record.lock_run(folder):
        # digests first: a file that changes while it is looked at is then not the sealed one, and found
        found = None if manifest_digest(folder) else describe_files(folder)
        verdict = inspect_bundle(folder)
        refuse_bundle_faults(verdict)
        if found:
            for left in folder.glob(f".{MANIFEST}.*.tmp"):
                left.unlink()
            about = {"format": FORMAT, "kind": verdict.kind, "run": folder.name, "rows": verdict.rows}
            digest.write_atomically(folder / MANIFEST, digest.dump_with_checksum(about | found))
        for name in (*read_manifest(folder)["files"], MANIFEST):
            path = folder / name
            path.chmod(path.stat().st_mode & ~_WRITE)
    return digest.sha256_file(folder / MANIFEST)


def describe_files(folder: Path) -> dict[str, Any]:
    """Digest and size of every file of a run, and digests of the tensors in its weights.

    Raises ArtifactError where a file of weights is none.
    """
    names = [path.relative_to(folder).as_posix() for path in _files(folder)]
    weights = [name for name in names if name.endswith(".safetensors") and not name.startswith(f"{OWN_MANIFESTS}/")]
    tensors = {}
    for name in weights:
        try:
            tensors[name] = tensor_digests.file_tensor_digests(folder / name)
        except ValueError as error:
            raise ArtifactError(f"{folder / name}: no whole safetensors file: {error}", fix="run it again") from None
    return {"files": {name: _digest_and_size(folder / name) for name in names}, "tensors": tensors}


def manifest_digest(folder: Path) -> str | None:
    """SHA-256 of a bundle's manifest, None where it has no whole one; the files it speaks of are not looked at."""
    try:
        read_manifest(folder)
    except ArtifactError:
        return None
    return digest.sha256_file(folder / MANIFEST)


def refuse_sealed(folder: Path) -> None:
    """Raise UsageError where a run is sealed, be its seal damaged: it must not be written to any more."""
    if (folder / MANIFEST).exists():
        raise UsageError(f"{folder.name} is sealed: nothing may change in it", fix="start a new run")


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a bundle's manifest says.

    Raises ArtifactError where it is missing, torn, changed, or not a bundle's.
    """
    path = folder / MANIFEST
    try:
        content = digest.read_with_checksum(path)
        if content.get("format") != FORMAT or content.keys() != MANIFEST_KEYS:
            raise ValueError(f"no bundle's manifest of format {FORMAT}")
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise ArtifactError(f"{path}: {what}", fix=f"thunder bundle seal {folder}") from None
    return content


def _files(folder: Path) -> list[Path]:
    """What belongs to a bundle: all files but hidden ones (locks, halves of files) and the manifest itself."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path != folder / MANIFEST
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _has_any(folder: Path, wanted: str | tuple[str, ...]) -> bool:
    return any((folder / name).is_file() for name in ((wanted,) if isinstance(wanted, str) else wanted))


def _digest_and_size(path: Path) -> dict[str, Any]:
    return {"sha256": digest.sha256_file(path), "bytes": path.stat().st_size}


def _changed_files(folder: Path, content: Mapping[str, Any]) -> list[str]:
    """Which of a sealed bundle's files are not what they were, with the tensors that differ."""
    faults = []
    for name, recorded in content["files"].items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{name}: missing, though it was sealed")
        elif (size := path.stat().st_size) != recorded["bytes"]:
            faults.append(f"{name}: {size} bytes, sealed were {recorded['bytes']}")
        elif digest.sha256_file(path) != recorded["sha256"]:
            tensors = content["tensors"].get(name)
            names = tensor_digests.differing_tensors(path, tensors) if tensors else []
            faults.append(f"{name}: changed since it was sealed{_named_tensors(names)}")
    return faults


def _named_tensors(names: Iterable[str]) -> str:
    first = list(names)
    return f", in {', '.join(first[:FAULTS_SHOWN])}{' and more' if len(first) > FAULTS_SHOWN else ''}" if first else ""


def _uncovered_files(folder: Path, content: Mapping[str, Any]) -> list[str]:
    """Files that were added later, and files that can still be written."""
    later = [path.relative_to(folder).as_posix() for path in _files(folder)]
    later = [name for name in later if name not in content["files"]]
    notes = (
        [f"{len(later)} files came after the seal and are not covered by it: {', '.join(later[:3])}"] if later else []
    )
    loose = [name for name in content["files"] if (folder / name).is_file() and (folder / name).stat().st_mode & _WRITE]
    if loose:
        notes.append(f"{len(loose)} files can still be written, such as {loose[0]}: seal it again")
    return notes

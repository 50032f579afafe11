"""Write and verify a corpus folder: rows by part, README, error model, picture, and a manifest that is written last."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from thunder import digest
from thunder.corpora.builders.totals import PartTotals, edit_counts, row_kinds
from thunder.corpora.splits.split_by_reference import PARTS
from thunder.errors import ArtifactError, CorpusError, combined_error
from thunder.version import __version__

SCHEMA = "thunder.corpus/1"
MANIFEST, README, CONFUSIONS, PICTURE = "manifest.json", "README.md", "confusions.json", "confusions.svg"
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
CORPUS_FILES = (*(f"{part}.jsonl" for part in PARTS), README, CONFUSIONS, PICTURE)


class CorpusWriter:
    """Write a corpus into a hidden folder beside its destination; `finish` moves it there.

    Without `finish`, after an error, nothing of it remains and the destination stays as it was.
    Raises CorpusError where the destination holds anything but a corpus of this package, or cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.stage = out.parent / f".{out.name}.{os.getpid()}.tmp"
        self.totals = {part: PartTotals() for part in PARTS}
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> CorpusWriter:
        refuse_foreign_folder(self.out)
        try:
            self.stage.mkdir(parents=True)
        except OSError as error:
            raise CorpusError(f"{self.stage}: {error.strerror}", fix="give a writable folder with --out") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        for file in self._files.values():
            file.close()
        shutil.rmtree(self.stage, ignore_errors=True)

    def add(self, part: str, row: Mapping[str, Any]) -> None:
        """Write one row."""
        counts = edit_counts(row["asr_text"], row["reference_text"])
        self.add_line(part, encode_row(row), (row["cer_edits"], row["reference_chars"]), row_kinds(row), counts)

    def add_line(
        self, part: str, line: bytes, edits: tuple[int, int], kinds: tuple[str, ...], counts: Sequence[int] | None
    ) -> None:
        """Write one encoded row (see `encode_row`), with its edits, reference length, kinds and counts."""
        if part not in self._files:
            self._files[part] = (self.stage / f"{part}.jsonl").open("wb")
        self._files[part].write(b'{"split": "%s", ' % part.encode() + line[1:])
        self.totals[part].add(*edits, kinds, counts)

    def finish(self, manifest: dict[str, Any], extras: Mapping[str, str]) -> dict[str, Any]:
        """Complete the manifest, move all files to the destination, the manifest last; return the manifest.

        extras: further files, name -> text.
        """
        for file in self._files.values():
            file.close()
        for name, content in extras.items():
            (self.stage / name).write_text(content, encoding="utf-8", newline="\n")
        manifest = {"schema": SCHEMA, "version": __version__} | manifest
        manifest["parts"] = {part: totals.as_dict() for part, totals in self.totals.items()}
        manifest["files"] = {
            path.name: {"sha256": digest.sha256_file(path), "bytes": path.stat().st_size}
            for path in sorted(self.stage.iterdir())
        }
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / MANIFEST).unlink(missing_ok=True)
        for name in CORPUS_FILES:
            if name in manifest["files"]:
                os.replace(self.stage / name, self.out / name)
            else:
                (self.out / name).unlink(missing_ok=True)
        digest.write_json(self.out / MANIFEST, manifest)
        return manifest


def encode_row(row: Mapping[str, Any]) -> bytes:
    """Return a row as a line of JSON in UTF-8; the writer adds the split."""
    return _ENCODER.encode(row).encode() + b"\n"


def refuse_foreign_folder(out: Path) -> None:
    """Raise CorpusError if a folder holds anything but a corpus of this package."""
    if not out.exists():
        return
    if not out.is_dir():
        raise CorpusError(f"{out}: is a file", fix="give a folder with --out")
    manifest = out / MANIFEST
    is_corpus = manifest.is_file() and f'"schema": "{SCHEMA}"' in manifest.read_text(encoding="utf-8", errors="replace")
    if any(out.iterdir()) and not is_corpus:
        raise CorpusError(f"{out}: is not empty and has no corpus manifest", fix="give another folder with --out")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a corpus. Raises ArtifactError where it is missing or damaged."""
    path = folder / MANIFEST
    fix = "build the corpus again"
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}: the corpus is not complete", fix=fix) from None
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: damaged: {error}", fix=fix) from None
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or manifest.get("schema") != SCHEMA:
        raise ArtifactError(f"{path}: not a corpus manifest ({SCHEMA})", fix=fix)
    if not all(isinstance(file, dict) and isinstance(file.get("sha256"), str) for file in files.values()):
        raise ArtifactError(f"{path}: damaged: 'files' has no digests", fix=fix)
    return manifest


def verify_corpus(folder: Path) -> dict[str, Any]:
    """Recompute every file's digest; return the manifest. Raises ArtifactError that names each damaged file."""
    manifest = read_manifest(folder)
    faults = []
    for name, file in sorted(manifest["files"].items()):
        path = folder / Path(name).name
        if not path.is_file():
            faults.append(f"{path}: is missing")
        elif (actual := digest.sha256_file(path)) != file["sha256"]:
            faults.append(f"{path}: sha256 is {actual[:16]}..., the manifest has {file['sha256'][:16]}...")
    faults += [
        f"{folder / name}: is not in the manifest"
        for name in CORPUS_FILES
        if name not in manifest["files"] and (folder / name).exists()
    ]
    if faults:
        raise combined_error(ArtifactError, f"{folder} is damaged:", faults, fix="build the corpus again")
    return manifest

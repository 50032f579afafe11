"""The manifests in a folder: metadata.jsonl or .csv, split folders, Common Voice, Kaldi, or a single file of rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thunder.acoustic.manifests.kaldi_folder import WAV_SCP

METADATA = "metadata.jsonl"
_METADATA_FILES = (METADATA, "metadata.csv", "metadata.tsv")
# names of splits, as files and folders have them
_SPLITS = ("train", "valid", "validation", "dev", "test")
_ROW_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz")


@dataclass(frozen=True)
class ManifestSource:
    """One manifest: a file of rows, or a folder of Kaldi. split: what the name of its file or folder says, if any."""

    path: Path
    split: str | None = None


def find_manifests(folder: Path) -> tuple[list[ManifestSource], list[Path]]:
    """The manifests that describe a folder, and the files of rows in it that are not read.

    Without a manifest of a known layout, the files of rows are only listed: the folder may be one of plain audio.
    """
    if (folder / WAV_SCP).is_file():
        return [ManifestSource(folder)], []
    for name in _METADATA_FILES:
        if (folder / name).is_file():
            return [ManifestSource(folder / name)], _row_files(folder, {name})
    if (folder / "clips").is_dir() and (tables := _common_voice(folder)):
        return tables, _row_files(folder, {table.path.name for table in tables})
    below = [folder, folder / "data"]
    splits = [
        ManifestSource(source.path, name)
        for root in below
        for name in _SPLITS
        if (root / name).is_dir()
        for source in find_manifests(root / name)[0]
    ]
    return splits, _row_files(folder, set())


def _common_voice(folder: Path) -> list[ManifestSource]:
    """The tables of Common Voice: those of the splits; `validated.tsv` holds all of these, and is read without them."""
    splits = [ManifestSource(folder / f"{name}.tsv", name) for name in _SPLITS if (folder / f"{name}.tsv").is_file()]
    validated = folder / "validated.tsv"
    return splits or ([ManifestSource(validated)] if validated.is_file() else [])


def _row_files(folder: Path, used: set[str]) -> list[Path]:
    files = (path for path in folder.iterdir() if path.is_file() and path.name.lower().endswith(_ROW_SUFFIXES))
    return sorted(path for path in files if path.name not in used)

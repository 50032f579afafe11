"""Check existing rows and corpora: correction rows field by field, leaks of a corpus, error models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from thunder.corpora.builders.corpus_folder import CONFUSIONS
from thunder.corpora.channels import error_channel as channels
from thunder.corpora.channels.error_channel import ErrorChannel
from thunder.corpora.rows.chat_rows import RowFile
from thunder.corpora.rows.correction_rows import CorrectionReader
from thunder.corpora.rows.field_mapping import NO_MAPPING, FieldMapping
from thunder.corpora.rows.jsonl_lines import JsonLines, LineFaults, json_object
from thunder.corpora.splits import near_duplicates
from thunder.corpora.splits.near_duplicate_index import NearDuplicateIndex
from thunder.corpora.splits.near_duplicates import comparable_key
from thunder.corpora.splits.split_by_reference import PARTS
from thunder.errors import ArtifactError, CorpusError
from thunder.text.comparable import unusual_characters


def correction_notes(corpus: RowFile, recompute: bool, mapping: FieldMapping = NO_MAPPING) -> dict[str, int]:
    """Count the oddities of a file's correction rows; empty where it has none. Raises CorpusError as a build."""
    by_messages = corpus.mapping is None
    if not any(
        "feat_id" in row.fields and ("reference_text" in row.fields or (by_messages and "asr_text" in row.fields))
        for row in corpus.rows
    ):
        return {}
    reader = CorrectionReader(recompute=recompute, mapping=mapping)
    for _ in reader.file(corpus.path):
        pass
    reader.finish()
    return dict(sorted(reader.notes.items()))


def count_unusual_characters(corpus: RowFile) -> dict[str, dict[str, int]]:
    """Count the unusual characters of a file's inputs and references (see `unusual_characters`), where it has any."""
    texts = {
        "characters of the inputs": (row.asr_text for row in corpus.rows if row.is_correction),
        "characters of the references": (row.reference for row in corpus.rows),
    }
    return {name: found for name, of_rows in texts.items() if (found := unusual_characters(of_rows))}


def learn_channel(source: Path) -> ErrorChannel:
    """Return the error channel of a corpus folder or a confusions.json, or learn it from a file of rows."""
    path = source / CONFUSIONS if source.is_dir() else source
    if not path.is_file():
        raise CorpusError(f"{path}: no such file", fix=f"give a folder with {CONFUSIONS}, or a file of rows")
    if path.suffix == ".json":
        return channels.channel_from_json(path.read_text(encoding="utf-8", errors="replace"), str(path))
    reader = CorrectionReader(recompute=True)
    try:
        return channels.learn_error_channel((row["asr_text"], row["reference_text"]) for row in reader.file(path))
    finally:
        reader.finish()


def count_leaks(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Count rows of training and validation that are near duplicates of a text in a part held out from them.

    The result also has what was looked for (in words and as numbers), and how many texts were compared.

    Raises ArtifactError where a reference text occurs in two parts, which no setting allows.
    """
    held_out = NearDuplicateIndex.of_settings(manifest.get("settings", {}))
    part_of_key: dict[str, str] = {}
    in_two_parts: list[str] = []
    near: Counter[str] = Counter()
    compared = 0
    for part in reversed(PARTS):
        for keys in near_duplicates.batch_by_length(_keys(folder / f"{part}.jsonl")):
            if part != "test":
                compared += len(keys)
                near.update(match.kind for match in held_out.near(keys) if match is not None)
            in_two_parts += [
                f"{key[:60]!r} is in {part_of_key[key]} and in {part}"
                for key in keys
                if part_of_key.get(key, part) != part
            ]
            part_of_key |= {key: part for key in keys if part != "train"}
        if part != "train":
            for keys in near_duplicates.batch_by_length(_keys(folder / f"{part}.jsonl")):
                held_out.add(range(len(keys)), keys)
    if in_two_parts:
        raise ArtifactError(
            "\n  ".join([f"{folder}: reference texts in two parts:", *in_two_parts[:20]]), "build it again"
        )
    return {
        "near_duplicates": near.total(),
        "by_shared_stretch": near["stretch"],
        "by_edits": near["edits"],
        "looked_for": held_out.describe(),
        "criteria": held_out.criteria(),
        "held_out_texts": held_out.held_out,
        "compared_texts": compared,
    }


def _keys(path: Path) -> Iterator[str]:
    """Yield the comparable key of each reference text of a file."""
    if path.is_file():
        for _, line in JsonLines(path, LineFaults()):
            yield comparable_key(json_object(line)["reference_text"])

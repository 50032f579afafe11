"""Read the rows of training, validation and test that the settings name, split and tokenize them. Needs no MLX."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.corpora.rows import chat_rows as corpus_rows
from thunder.corpora.rows import row_pieces
from thunder.corpora.rows.chat_rows import ChatRow
from thunder.corpora.splits import split_by_reference
from thunder.errors import CorpusError
from thunder.lora import tokenized_rows
from thunder.lora.lora_settings import EMBEDDED_DATA, LoraSettings
from thunder.lora.prompts.prompt_format import PromptFormat


@dataclass(frozen=True)
class DatasetRows:
    """Rows of each part, notes on their source, and part -> SHA-256 of its file."""

    train: tuple[ChatRow, ...]
    valid: tuple[ChatRow, ...]
    test: tuple[ChatRow, ...]
    files: dict[str, str]
    notes: tuple[str, ...]

    def digest(self) -> str:
        """SHA-256 of the files' digests, to compare the rows of hosts."""
        return digest.sha256_json(sorted(self.files.values()))


def dataset_files(settings: LoraSettings) -> dict[str, Path]:
    """Part -> file that the settings name: 'train', and 'valid' and 'test' where there are any."""
    if settings.train_data is None:
        folder = Path(settings.data).expanduser() if settings.data else EMBEDDED_DATA
        if not (folder / "train.jsonl").is_file():
            raise CorpusError(
                f"{folder}: no train.jsonl in it", fix="name a folder with train.jsonl, or a file with --train-data"
            )
        named = {part: folder / f"{part}.jsonl" for part in ("train", "valid", "test")}
        named = {part: path for part, path in named.items() if part == "train" or path.is_file()}
    else:
        named = {"train": Path(settings.train_data).expanduser()}
    for part, given in (("valid", settings.valid_data), ("test", settings.test_data)):
        if given:
            named[part] = Path(given).expanduser()
    return named


def read_datasets(settings: LoraSettings) -> DatasetRows:
    """Read the files; parts without a file are held out of the training rows, by hash of the reference text.

    Raises CorpusError that lists the faults of all files, and where nothing is left to train on.
    """
    named = dataset_files(settings)
    corpora = dict(zip(named, corpus_rows.read_row_files(named.values()), strict=True))
    notes = [corpus.describe() for corpus in corpora.values()]
    train: Sequence[ChatRow] = corpora["train"].rows
    parts: dict[str, Sequence[ChatRow]] = {}
    for part in ("valid", "test"):
        if part in corpora:
            parts[part] = corpora[part].rows
        else:
            train, parts[part] = split_by_reference.hold_out(train, settings.holdout, part)
            notes.append(
                f"{part}: {len(parts[part])} rows held out of the training rows, by hash of the reference text"
            )
    if not train:
        raise CorpusError(f"{named['train']}: no row is left to train on", fix="more rows, or a smaller --holdout")
    held = {split_by_reference.reference_key(row) for part in parts.values() for row in part}
    shared = {split_by_reference.reference_key(row) for row in train} & held
    if shared:
        notes.append(f"warning: {len(shared)} reference texts stand in training and in validation or test: a leak")
    test = sorted(parts["test"], key=lambda row: hashlib.sha256(row.reference.encode()).digest())[: settings.test_rows]
    return DatasetRows(
        tuple(train), tuple(parts["valid"]), tuple(test), {part: c.sha256 for part, c in corpora.items()}, tuple(notes)
    )


@dataclass(frozen=True)
class PreparedDatasets:
    """Rows and their tokens, ready for the task."""

    rows: DatasetRows
    train: tokenized_rows.EncodedRows
    valid: tokenized_rows.EncodedRows

    def summary(self) -> dict[str, Any]:
        """Counts for the plan and the record."""
        train = self.train.summary()
        share = self.train.supervised / self.train.tokens if self.train.tokens else 0.0
        return {
            "train": train | {"supervised_share": share},
            "valid": self.valid.summary(),
            "test_rows": len(self.rows.test),
            "notes": list(self.rows.notes),
            "sha256": self.rows.files,
        }


def _split_into_chunks(rows: Sequence[ChatRow], words: int) -> list[ChatRow]:
    return [piece for row in rows for piece in row_pieces.pieces_of_row(row, words)] if words else list(rows)


def prepare_datasets(settings: LoraSettings, prompts: PromptFormat, ranks: int) -> PreparedDatasets:
    """Read and tokenize the rows.

    Raises CorpusError where rows are faulty, all too long, or fewer than the ranks.
    """
    rows = read_datasets(settings)
    train = tokenized_rows.encode_rows(
        _split_into_chunks(rows.train, settings.chunk_words), prompts, settings.max_seq_length, settings.mask_prompt
    )
    valid = tokenized_rows.encode_rows(
        _split_into_chunks(rows.valid, settings.chunk_words), prompts, settings.max_seq_length, settings.mask_prompt
    )
    if not train.examples:
        raise CorpusError(
            f"none of {len(rows.train)} training rows has its completion within {settings.max_seq_length} tokens",
            fix="a higher --max-seq-length",
        )
    if "valid" in rows.files and not valid.examples:
        raise CorpusError(
            f"none of {len(rows.valid)} validation rows has its completion within {settings.max_seq_length} tokens",
            fix="a higher --max-seq-length, or other validation rows",
        )
    if settings.patience and not valid.examples:
        raise CorpusError(
            f"--patience {settings.patience} needs validation rows, and there are none",
            fix="name some with --valid-data, or raise --holdout",
        )
    if len(train.examples) < ranks:
        raise CorpusError(
            f"{len(train.examples)} training rows for {ranks} ranks: some rank would never have one",
            fix="more rows, or fewer --ranks",
        )
    return PreparedDatasets(rows, train, valid)

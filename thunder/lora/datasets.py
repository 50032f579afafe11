"""Read the rows of training, validation and test that the settings name, split and tokenize them. Needs no MLX."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.corpora.rows import chat_rows as corpus_rows
from thunder.corpora.rows import row_pieces
from thunder.corpora.rows.chat_rows import ChatRow
from thunder.corpora.rows.field_mapping import parse_field_mapping
from thunder.corpora.splits import divide_rows, split_by_reference
from thunder.corpora.splits.divide_rows import contradicting_splits
from thunder.errors import CorpusError
from thunder.lora import tokenized_rows
from thunder.lora.lora_settings import EMBEDDED_DATA, LoraSettings
from thunder.lora.prompts.prompt_format import PromptFormat
from thunder.units import format_path

# names of a part's file in a folder, and kinds of files, the first found being used
PART_FILES = {"train": ("train",), "valid": ("valid", "validation", "val", "dev"), "test": ("test",)}
KINDS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
# bytes: a larger file holds something
EMPTY_BELOW = 1 << 16


@dataclass(frozen=True)
class DatasetRows:
    """Rows of each part, notes on their source, and part -> SHA-256 of its file.

    rules: how rows were read and divided, where version 0.1.0 did it in another way; its runs do not resume with them.
    """

    train: tuple[ChatRow, ...]
    valid: tuple[ChatRow, ...]
    test: tuple[ChatRow, ...]
    files: dict[str, str]
    notes: tuple[str, ...]
    rules: tuple[str, ...] = ()

    def digest(self) -> str:
        """SHA-256 of the files' digests and of the rules, to compare the rows of hosts and of an interrupted run."""
        return digest.sha256_json([*sorted(self.files.values()), *self.rules])


def dataset_files(settings: LoraSettings) -> dict[str, Path]:
    """Part -> file that the settings name: 'train', and 'valid' and 'test' where there are any.

    A part's file that holds nothing is as if it were not there.
    """
    if settings.train_data is None:
        folder = Path(settings.data).expanduser() if settings.data else EMBEDDED_DATA
        if not folder.exists():
            raise CorpusError(
                f"{folder}: no train.jsonl in it: there is no such folder",
                fix="name a folder with train.jsonl; data sets of Hugging Face are not fetched here as mlx_lm does: "
                f"`hf download --repo-type dataset {folder.parent.name}/{folder.name} --local-dir FOLDER` does",
            )
        found = {part: files for part in PART_FILES if (files := _files_of_part(folder, part))}
        if "train" not in found:
            raise CorpusError(
                f"{folder}: no train.jsonl in it", fix="name a folder with train.jsonl, or a file with --train-data"
            )
        named = {part: files[0] for part, files in found.items()}
    else:
        named = {"train": Path(settings.train_data).expanduser()}
    for part, given in (("valid", settings.valid_data), ("test", settings.test_data)):
        if given:
            named[part] = Path(given).expanduser()
    return {part: path for part, path in named.items() if part == "train" or not _is_empty(path)}


def _files_of_part(folder: Path, part: str) -> list[Path]:
    """The files of a folder that are named as a part, the first of them being used."""
    names = (f"{stem}{kind}{packed}" for stem in PART_FILES[part] for kind in KINDS for packed in ("", ".gz", ".zst"))
    return [path for name in names if (path := folder / name).is_file()]


def _is_empty(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size < EMPTY_BELOW and not path.read_bytes().strip()
    except OSError:
        return False


def _file_notes(settings: LoraSettings, used: Sequence[Path]) -> list[str]:
    """Name the files of the parts that are not read: empty ones, and others of the same part."""
    given = [Path(path).expanduser() for path in (settings.valid_data, settings.test_data) if path]
    folder = None if settings.train_data else Path(settings.data).expanduser() if settings.data else EMBEDDED_DATA
    in_folder = [path for part in PART_FILES for path in _files_of_part(folder, part)] if folder else []
    passed_over = [path for path in (*given, *in_folder) if path not in used]
    return [
        f"{format_path(path)}: {'empty, as if it were not there' if _is_empty(path) else 'not used'}"
        for path in dict.fromkeys(passed_over)
    ]


def read_datasets(settings: LoraSettings) -> DatasetRows:
    """Read the files; parts without a file are held out of the training rows (see `divide_rows`).

    Raises CorpusError that lists the faults of all files, and where nothing is left to train on.
    """
    named = dataset_files(settings)
    mapping = parse_field_mapping(settings.fields)
    corpora = dict(zip(named, corpus_rows.read_row_files(named.values(), mapping=mapping), strict=True))
    used_fields = [name for name in ("split", settings.group_by) if name]
    notes = [line for corpus in corpora.values() for line in (corpus.describe(), *corpus.reading_notes(used_fields))]
    notes += _file_notes(settings, list(named.values()))
    missing = [part for part in divide_rows.HELD_OUT if part not in corpora]
    own_split = settings.split == "own"
    try:
        divided = divide_rows.divide_rows(
            corpora["train"].rows, missing, settings.holdout, own_split, settings.group_by
        )
    except CorpusError as error:
        raise CorpusError(f"{named['train']}: {error.message}", fix=error.fix) from None
    notes += divided.notes
    parts = {part: corpora[part].rows if part in corpora else divided.held_out[part] for part in divide_rows.HELD_OUT}
    if not divided.train:
        raise CorpusError(f"{named['train']}: no row is left to train on", fix="more rows, or a smaller --holdout")
    notes += _leak_notes(divided.train, parts, settings.group_by)
    notes += [note for part in parts if part in corpora and (note := contradicting_splits(corpora[part].rows, part))]
    test = _by_hash(parts["test"])[: settings.most_test_rows]
    valid, valid_notes = _chosen_for_validation(parts["valid"], settings)
    notes += valid_notes
    rules = [
        *(valid_notes if settings.val_batches is None else ()),
        *divided.rules,
        *(rule for corpus in corpora.values() for rule in corpus.reading_rules),
    ]
    files = {part: corpus.sha256 for part, corpus in corpora.items()}
    return DatasetRows(tuple(divided.train), tuple(valid), tuple(test), files, tuple(notes), tuple(sorted(set(rules))))


def _leak_notes(train: Sequence[ChatRow], parts: Mapping[str, Sequence[ChatRow]], group_by: str | None) -> list[str]:
    """Name what training shares with the held-out rows, and parts without a row."""
    notes = []
    held_rows = [row for part in parts.values() for row in part]
    held = {split_by_reference.reference_key(row) for row in held_rows}
    if shared := {split_by_reference.reference_key(row) for row in train} & held:
        notes.append(f"warning: {len(shared)} reference texts stand in training and in validation or test: a leak")
    notes += divide_rows.shared_groups(train, held_rows, group_by)
    lacking = {"valid": "no validation rows (name some with --valid-data)", "test": "no test rows (--test-data)"}
    if empty := [lacking[part] for part, rows in parts.items() if not rows]:
        notes.append(f"warning: {' and '.join(empty)}: what the run learns is not measured there")
    return notes


def _chosen_for_validation(rows: Sequence[ChatRow], settings: LoraSettings) -> tuple[Sequence[ChatRow], list[str]]:
    """The rows that validations score, in their order, and a note where these are not all."""
    most = settings.most_valid_rows
    if most is None or len(rows) <= most:
        return rows, []
    chosen = {id(row) for row in _by_hash(rows)[:most]}
    note = f"valid: {most} of {len(rows)} rows, by hash of the reference text; --val-batches -1 takes all"
    return [row for row in rows if id(row) in chosen], [note]


def _by_hash(rows: Sequence[ChatRow]) -> list[ChatRow]:
    """Rows in the order of their reference texts' SHA-256."""
    return sorted(rows, key=lambda row: hashlib.sha256(row.reference.encode()).digest())


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
    if "valid" in rows.files and rows.valid and not valid.examples:
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

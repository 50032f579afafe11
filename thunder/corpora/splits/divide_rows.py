"""Divide rows into training, validation and test: by their own `split`, else by hash of the reference or of a group."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from thunder.corpora.rows.chat_rows import ChatRow
from thunder.corpora.splits.split_by_reference import hold_out, reference_key
from thunder.errors import CorpusError

# values of a row's `split` -> the part that it names
PART_NAMES = {
    "train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "development": "valid", "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
HELD_OUT = ("valid", "test")
# a small corpus holds out this many references of each part, if it has so many times five; of groups, one of three
FEWEST, SHARE_OF_FEWEST = 3, 5
FEWEST_GROUPS = 3
# fields by which rows of one origin are told: a speaker or a document in two parts makes a test too easy
GROUP_FIELDS = (
    "speaker_id", "speaker", "spk_id", "spk", "client_id", "audio_id", "recording_id", "session_id", "session",
    "document_id", "doc_id", "document", "doc", "page", "book", "url",
)  # fmt: skip


@dataclass
class DividedRows:
    """The rows of each part, and how they came there. rules: those that version 0.1.0 did not have."""

    train: Sequence[ChatRow]
    held_out: dict[str, Sequence[ChatRow]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)


def divide_rows(
    rows: Sequence[ChatRow], parts: Sequence[str], share: float, own_split: bool = True, group_by: str | None = None
) -> DividedRows:
    """Divide the rows of a training file; parts: those of HELD_OUT that have no file of their own.

    A part is the rows whose own `split` names it, where `own_split` and some rows have one; else about `share` of the
    references is held out by hash, or of the values of the field `group_by`. Of few rows more are held out, so that
    each part has some (`fewest_held_out`).
    Raises CorpusError where no row has the field, or every row names another part than training.
    """
    divided = DividedRows(rows)
    if own_split:
        _divide_by_own_split(divided, parts)
    grouped = group_by is not None
    if grouped and not any(group_of(row, group_by) is not None for row in rows):
        known = ", ".join(dict.fromkeys(name for row in rows for name in row.fields)) or "none"
        raise CorpusError(f"--group-by {group_by}: no row has this field; found {known}", fix="name one of them")
    keys = {id(row): _key(row, group_by) for row in divided.train}
    fewest = fewest_held_out(len(set(keys.values())), grouped) if share else 0
    for part in parts:
        if part in divided.held_out:
            continue
        kept, held = hold_out(divided.train, share, part, lambda row: keys[id(row)])
        if len({keys[id(row)] for row in held}) < fewest:
            kept, held = hold_out(divided.train, share, part, lambda row: keys[id(row)], fewest)
            divided.rules += [] if "fewest" in divided.rules else ["fewest"]
        divided.train, divided.held_out[part] = kept, held
        by = f"{group_by} ({len({keys[id(row)] for row in held})} of its values)" if grouped else "the reference text"
        divided.notes.append(f"{part}: {len(held)} rows held out of the training rows, by hash of {by}")
    return divided


def _divide_by_own_split(divided: DividedRows, parts: Sequence[str]) -> None:
    """Put the rows that name another part than training there, or leave them out where it has its own file."""
    named: dict[str, list[ChatRow]] = {"train": [], "valid": [], "test": []}
    unknown: Counter[str] = Counter()
    for row in divided.train:
        value = row.fields.get("split")
        part = part_of_split(value) if value not in (None, "") else "train"
        unknown.update([] if part else [str(value)])
        named[part or "train"].append(row)
    if unknown:
        values = ", ".join(f"{value!r} ({times})" for value, times in unknown.most_common(5))
        divided.notes.append(f"'split' names no known part, trained on: {values}")
    if not named["valid"] and not named["test"]:
        return
    if not named["train"]:
        raise CorpusError(
            f"every row says by its 'split' that it is not for training ({len(named['valid'])} validation, "
            f"{len(named['test'])} test)",
            fix="--split by-reference divides the rows anew",
        )
    counts = ", ".join(f"{len(rows)} {part}" for part, rows in named.items())
    divided.notes.append(f"divided by the rows' own 'split': {counts} (--split by-reference divides anew)")
    divided.rules.append("own split")
    divided.train = named["train"]
    for part in HELD_OUT:
        if named[part] and part in parts:
            divided.held_out[part] = named[part]
        elif named[part]:
            divided.notes.append(
                f"{len(named[part])} rows say that they are of {part}, which has its own file: left out of training"
            )


def part_of_split(value: object) -> str | None:
    """The part that a row's `split` names, None where it names none."""
    return PART_NAMES.get(str(value).strip().lower())


def fewest_held_out(keys: int, grouped: bool = False) -> int:
    """Return how many of so many references (or groups) each held-out part has at least."""
    if grouped:
        return 1 if keys >= FEWEST_GROUPS else 0
    return min(FEWEST, keys // SHARE_OF_FEWEST)


def group_of(row: ChatRow, name: str | None) -> str | None:
    """The value of a field as a text, None where the row has none."""
    value = row.fields.get(name) if name else None
    if value in (None, "", [], {}):
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _key(row: ChatRow, group_by: str | None) -> str:
    group = group_of(row, group_by)
    return reference_key(row) if group is None else f"group\0{group}"


def shared_groups(train: Sequence[ChatRow], held_out: Sequence[ChatRow], named: str | None) -> list[str]:
    """Name the fields of GROUP_FIELDS whose values are in training and in a held-out part. named: --group-by."""
    notes = []
    for name in GROUP_FIELDS:
        trained, tested = ([value for row in rows if (value := group_of(row, name))] for rows in (train, held_out))
        values, both = {*trained, *tested}, set(trained) & set(tested)
        if both and len(values) < len(trained) + len(tested):
            advice = "" if named else f"; --group-by {name} keeps them apart"
            notes.append(f"{name}: {len(both)} of {len(values)} values are in training and also held out{advice}")
    return notes


def contradicting_splits(rows: Sequence[ChatRow], part: str) -> str | None:
    """Name the rows of a part's own file that say they are of another part."""
    values = Counter(str(row.fields.get("split")) for row in rows if row.fields.get("split") not in (None, ""))
    others = {value: times for value, times in values.items() if part_of_split(value) not in (None, part)}
    if not others:
        return None
    return f"warning: {sum(others.values())} rows of the {part} file say 'split' {', '.join(map(repr, others))}"

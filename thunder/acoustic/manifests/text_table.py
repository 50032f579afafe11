"""A table of texts by id, in both scripts: corrected texts of recordings whose rows have none, or another one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thunder.acoustic.manifests.manifest_rows import read_manifest
from thunder.corpora.rows.jsonl_lines import LineFaults, kind_of_value
from thunder.errors import CorpusError

# accepted names of each column, the preferred one first
IDS = ("feat_id", "id", "audio_id", "utterance_id")
NKO, LATIN, TEXT = ("nko", "text_nko", "nko_text"), ("latin", "text_latin", "latin_text"), ("text", "transcript")
NAMED = 5  # ids that a message lists
_FIX = 'give rows such as {"feat_id": ..., "nko": ..., "latin": ...}'


@dataclass(frozen=True, slots=True)
class IdTexts:
    """The texts of one id: in N'Ko, in Latin script, or in a script that the row does not name."""

    nko: str | None
    latin: str | None
    text: str | None

    def apply(self, text: str | None, extra: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """(text, extra fields) of an utterance with these texts in the place of its own."""
        both = {name: value for name, value in (("text_nko", self.nko), ("text_latin", self.latin)) if value}
        kept = {name: value for name, value in extra.items() if name not in ("text_nko", "text_latin")}
        return self.nko or self.latin or self.text or text, kept | both


@dataclass
class TextTable:
    """Texts of the ids that were asked for, and what matched on one side only.

    rows: of the file. texts_only, ids_only: number of ids on one side, with the first ones as *_named.
    """

    path: Path
    texts: dict[str, IdTexts]
    rows: int = 0
    texts_only: int = 0
    texts_only_named: list[str] = field(default_factory=list)
    ids_only: int = 0
    ids_only_named: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Counts for plans and results."""
        return {
            "rows": self.rows, "joined": len(self.texts), "texts_without_recording": self.texts_only,
            "texts_without_recording_ids": self.texts_only_named, "recordings_without_text": self.ids_only,
            "recordings_without_text_ids": self.ids_only_named,
        }  # fmt: skip

    def messages(self) -> list[str]:
        """What was joined, and what has no counterpart."""
        lines = [f"{self.path}: {len(self.texts)} of {self.rows} texts joined by id"]
        for count, named, what in (
            (self.texts_only, self.texts_only_named, "texts without a recording"),
            (self.ids_only, self.ids_only_named, "recordings without a text in it"),
        ):
            if count:
                lines.append(f"{count} {what}: {', '.join(named)}{', ...' if count > len(named) else ''}")
        return lines


def read_text_table(path: Path, ids: Collection[str]) -> TextTable:
    """Read the texts of `ids`; memory grows with these ids and not with the file.

    Raises CorpusError that lists every row without an id or a text and every id with two rows, or if no id matches.
    """
    wanted, faults = set(ids), LineFaults()
    table = TextTable(path, {})
    for where, fields in read_manifest(path, faults):
        table.rows += 1
        name, texts, fault = _parse(fields)
        if fault:
            faults.add(f"{where}: {fault}")
        elif name not in wanted:
            table.texts_only += 1
            if len(table.texts_only_named) < NAMED:
                table.texts_only_named.append(name)
        elif table.texts.setdefault(name, texts) is not texts:
            faults.add(f"{where}: id {name!r} has an earlier row")
    if faults:
        raise faults.error(f"{path}: texts cannot be used:", _FIX)
    missing = [name for name in ids if name not in table.texts]
    table.ids_only, table.ids_only_named = len(missing), missing[:NAMED]
    if not table.texts:
        example = f"{table.texts_only_named[0]!r} there, " if table.texts_only_named else ""
        raise CorpusError(
            f"{path}: none of its {table.rows} ids is one of {len(wanted)} recordings ({example}"
            f"{next(iter(ids), None)!r} here)", "give the table of these recordings; ids must be equal",
        )  # fmt: skip
    return table


def _parse(fields: dict[str, Any]) -> tuple[str, IdTexts, str | None]:
    """(id, texts, fault)."""
    values: list[str | None] = []
    for names in (IDS, NKO, LATIN, TEXT):
        value = next((fields[name] for name in names if fields.get(name) is not None), None)
        if isinstance(value, int) and not isinstance(value, bool) and names is IDS:
            value = str(value)
        if value is not None and not isinstance(value, str):
            return "", IdTexts(None, None, None), f"'{names[0]}' is {kind_of_value(value)}, expected a text"
        values.append(value.strip() if value else None)
    name, *texts = values
    if not name:
        return "", IdTexts(None, None, None), f"has no id: expected one of {', '.join(map(repr, IDS))}"
    if not any(texts):
        return name, IdTexts(None, None, None), "has no text: expected 'nko', 'latin' or 'text'"
    return name, IdTexts(*texts), None

"""Read correction rows (recognized and reference text) in a stream from each of their formats, and check them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from thunder.corpora.rows.field_mapping import NO_MAPPING, FieldMapping
from thunder.corpora.rows.joins import PREDICTED, REFERENCE, join_halves, read_half, sound_half
from thunder.corpora.rows.jsonl_lines import JsonLines, LineFault, LineFaults, Progress, kind_of_value
from thunder.corpora.rows.row_records import RowRecords
from thunder.corpora.rows.row_shapes import MAP_FIELDS, PAIRS, VERBATIM, first_hypothesis
from thunder.errors import CorpusError
from thunder.text import distance, normalize, row_fields
from thunder.text.comparable import comparable_text
from thunder.text.row_fields import PARTITIONS, UNKNOWN

SCHEMA = "thunder.correction/1"
EVIDENCE = ("oracle", "smoke", "synthetic", "prediction_only", "real_same_provenance", "real_other_provenance")
# fields of a correction row, and their types; OPTIONAL ones may be missing
FIELDS: dict[str, tuple[type, ...]] = row_fields.PREDICTION_FIELDS | {"reference_text": (str,)}
OPTIONAL: dict[str, tuple[type, ...]] = {"run_id": (str, type(None)), "origin": (str,), "evidence_class": (str,)}
_TYPES = FIELDS | OPTIONAL
TEXT_PAIRS = tuple(pair for pair in PAIRS if pair not in (VERBATIM, ("input", "output")))
# error rates in logs of other programs, and the tolerance of a comparison
LOGGED, ROUNDING = ("cer_cp", "cer"), 1e-4

_NAMES: dict[type, str] = {str: "a text", int: "a whole number", dict: "an object", type(None): "null"}
# characters that a clean text in N'Ko or Latin does not have: without one a text needs no search for faults
_NOT_NKO = re.compile("[^\u07c0-\u07f9 -@\\[-`{-~\u060c\u061b\u061f\u00ab\u00bb]|(?<![\u07c0-\u07f5])[\u07eb-\u07f3]")
_NOT_LATIN = re.compile("[^ -~\u00c0-\u024f\u0250-\u02af\u2019]")
_NKO, _LATIN = re.compile("[\u07ca-\u07ea]"), re.compile("[A-Za-z\u00c0-\u024f\u0250-\u02af]")


@dataclass(frozen=True)
class RowSource:
    """One input file as it was read."""

    path: Path
    sha256: str
    bytes: int
    rows: int
    form: str

    def as_dict(self) -> dict[str, Any]:
        """The source for the manifest: the name without its folder, equal wherever the file lies."""
        return {
            "name": self.path.name, "sha256": self.sha256, "bytes": self.bytes, "rows": self.rows, "form": self.form
        }  # fmt: skip


class CorrectionReader:
    """Read correction rows from files, one by one; `finish` raises all of their faults at once.

    recompute: replace a row's 'cer_edits' or 'reference_chars' by the recomputed count; without it a difference is a
    fault.
    run_id, evidence_class: defaults for rows without them. mapping: new names of fields.
    notes: oddities that are not faults, counted by name.
    """

    def __init__(
        self,
        recompute: bool = False,
        run_id: str | None = None,
        evidence_class: str | None = None,
        progress: Progress | None = None,
        mapping: FieldMapping = NO_MAPPING,
    ) -> None:
        self.recompute, self.run_id, self.evidence_class, self.progress = recompute, run_id, evidence_class, progress
        self.mapping = mapping
        self.faults = LineFaults()
        self.notes: Counter[str] = Counter()
        self.sources: list[RowSource] = []
        self.rows = 0
        self._seen: dict[int, str] = {}

    def file(self, path: Path) -> Iterator[dict[str, Any]]:
        """Yield the rows of one file: correction rows, or pairs of texts (see TEXT_PAIRS)."""
        records = RowRecords(path, self.faults, self.progress, self.mapping, sound=True)
        forms: Counter[str] = Counter()
        for number, fields in records:
            where = f"{path.name}:{number}"
            try:
                form, pair = _form(fields, self.mapping)
                forms[form] += 1
                row = self._row(fields, form, pair, where, f"{path.stem}-{number}")
            except LineFault as fault:
                self.faults.add_line(path, number, fault)
            else:
                yield row
        file_form = "" if records.form == "JSONL" else f" ({records.form})"
        self._done(records, sum(forms.values()), ", ".join(sorted(forms)) + file_form)

    def joined(self, predictions: Path, references: Path) -> Iterator[dict[str, Any]]:
        """Yield the rows of a run: predictions and references joined by feat_id, one to one.

        Only rows without a partner so far are held in memory. Rows come in the order of the files where both agree.
        """
        kinds = (predictions, PREDICTED), (references, REFERENCE)
        files = [JsonLines(path, self.faults, self.progress) for path, _ in kinds]
        halves = [read_half(lines, self.faults) for lines in files]
        waiting: tuple[dict[str, tuple[int, bytes]], dict[str, tuple[int, bytes]]] = ({}, {})
        counts = [0, 0]
        for pair_of_halves in zip_longest(*halves):
            for side, half in enumerate(pair_of_halves):
                if half is None:
                    continue
                counts[side] += 1
                feat_id, entry = half
                match = waiting[1 - side].pop(feat_id, None)
                if match is None:
                    waiting[side][feat_id] = entry
                    continue
                pair = (entry, match) if side == 0 else (match, entry)
                try:
                    fields = join_halves([sound_half(line) for _, line in pair])
                    where = f"{predictions.name}:{pair[0][0]}"
                    row = self._row(fields, "joined", ("asr_text", "reference_text"), where, feat_id)
                except LineFault as fault:
                    self.faults.add(f"{predictions}:{pair[0][0]} and {references}:{pair[1][0]}: {fault}")
                else:
                    yield row
        for side, unmatched in enumerate(waiting):
            for feat_id, (number, _) in unmatched.items():
                self.faults.add(f"{files[side].path}:{number}: feat_id {feat_id!r} is not in {files[1 - side].path}")
        for side in (0, 1):
            self._done(files[side], counts[side], ("predictions", "references")[side])

    def finish(self) -> None:
        """Raise CorpusError with every fault of every file, or because no row was found."""
        if self.faults:
            names = ", ".join(str(source.path) for source in self.sources)
            fix = "correct these lines; where only counts differ, --recompute replaces them"
            raise self.faults.error(f"{names} cannot be used:", fix=fix)
        if not self.rows:
            names = ", ".join(str(source.path) for source in self.sources) or "no file"
            raise CorpusError(f"{names}: has no rows", fix="give a JSONL file with one row on each line")

    def _done(self, lines: JsonLines | RowRecords, rows: int, form: str) -> None:
        self.notes.update({name: times for name, times in lines.notes.items()})
        self.sources.append(RowSource(lines.path, lines.sha256, lines.bytes, rows, form))

    def _row(self, fields: dict[str, Any], form: str, pair: tuple[str, str], where: str, name: str) -> dict[str, Any]:
        """Return one row in the package's format, texts in NFC. Raises LineFault."""
        if form == "correction" and (missing := [key for key in FIELDS if key not in fields]):
            raise LineFault(f"lacks {', '.join(map(repr, missing))}")
        fields[pair[0]], alternatives = first_hypothesis(pair[0], others := fields[pair[0]])
        if alternatives:
            fields.setdefault("n_best", others)
        _check_types(fields, pair)
        asr_text, reference = self._normal(fields.pop(pair[0])), self._normal(fields.pop(pair[1]))
        if not reference.strip():
            raise LineFault(f"'{pair[1]}' is empty")
        if form != "correction":
            name = row_fields.first_id(fields, name)
        fields.pop("feat_id", None) if form != "correction" else (name := fields["feat_id"])
        if (earlier := self._seen.setdefault(hash(name), where)) != where:
            raise LineFault(f"feat_id {name!r} is already used at {earlier}")
        counts = self._counts(fields, asr_text, reference)
        self._note(asr_text, reference)
        self.rows += 1
        row = {
            "schema": SCHEMA,
            "feat_id": name,
            "audio_id": fields.pop("audio_id", None),
            "source_split": fields.pop("split", None) or fields.pop("source_split", None),
            "script": fields.pop("script", None) or row_script(reference),
            "mode": fields.pop("mode", None) or UNKNOWN,
            "asr_text": asr_text,
            "reference_text": reference,
            **counts,
            "trajectory_scalars": _scalars(fields.pop("trajectory_scalars", None)),
            "partition": self._partition(fields, form),
            "run_id": fields.pop("run_id", None) or self.run_id,
            "origin": fields.pop("origin", "real"),
            "evidence_class": fields.pop("evidence_class", None) or self._evidence(form),
            "source": where,
        }
        for key in ("schema", "messages"):
            fields.pop(key, None)
        return row | {key: value for key, value in fields.items() if key not in row}

    def _normal(self, text: str) -> str:
        if unicodedata.is_normalized("NFC", text):
            return text
        self.notes["texts not in NFC"] += 1
        return normalize.normalize_text(text)

    def _counts(self, fields: dict[str, Any], asr_text: str, reference: str) -> dict[str, int]:
        """Return recomputed edits and reference code points, compared with those that the row states."""
        whole = {"cer_edits": distance.edit_distance(asr_text, reference), "reference_chars": len(reference)}
        asr_text, reference = comparable_text(asr_text), comparable_text(reference)
        edits = distance.edit_distance(asr_text, reference)
        counts = {"cer_edits": edits, "reference_chars": len(reference)}
        if counts != whole:
            self.notes["outer space not counted"] += 1
        for key, counted in counts.items():
            recorded = fields.pop(key, counted)
            # rows written earlier count the space around a text
            if recorded not in (counted, whole[key]):
                if not self.recompute:
                    raise LineFault(f"'{key}' is {recorded}, but counted in NFC it is {counted}")
                self.notes[f"'{key}' recomputed"] += 1
        for key in LOGGED:
            logged = fields.get(key)
            if isinstance(logged, float) and abs(logged - edits / len(reference)) > ROUNDING:
                self.notes[f"'{key}' is not edits by code points"] += 1
        return counts

    def _note(self, asr_text: str, reference: str) -> None:
        if not asr_text.strip():
            self.notes["nothing recognised"] += 1
        kinds = {
            fault.kind for text in (asr_text, reference) if not _plain(text) for fault in normalize.text_faults(text)
        }
        self.notes.update(kinds)

    def _partition(self, fields: dict[str, Any], form: str) -> str:
        partition = fields.pop("partition", None)
        if partition in PARTITIONS:
            return partition
        if form in ("correction", "joined"):
            self.notes["unknown partition"] += 1
        if partition not in (None, UNKNOWN):
            fields["source_partition"] = partition
        return UNKNOWN

    def _evidence(self, form: str) -> str:
        if self.evidence_class:
            return self.evidence_class
        return "real_same_provenance" if form in ("correction", "joined") else "real_other_provenance"


def _plain(text: str) -> bool:
    """Return whether a quick check shows that a text has none of the faults of `normalize.text_faults`."""
    return not _NOT_NKO.search(text) or not _NOT_LATIN.search(text)


def row_script(text: str) -> str:
    """Return the script of most letters of a text: nko, latin or other."""
    nko, latin = len(_NKO.findall(text)), len(_LATIN.findall(text))
    return "other" if not nko and not latin else "nko" if nko >= latin else "latin"


def _form(fields: Mapping[str, Any], mapping: FieldMapping = NO_MAPPING) -> tuple[str, tuple[str, str]]:
    """Return how a row is read, and the names of its two texts."""
    text_fields = ("asr_text", "reference_text")
    if fields.get("schema", SCHEMA) != SCHEMA:
        raise LineFault(f"is of schema {fields['schema']!r}; known is {SCHEMA!r}")
    if "schema" in fields or ("feat_id" in fields and any(key in fields for key in text_fields)):
        return "correction", text_fields
    pairs = sorted(TEXT_PAIRS, key=lambda pair: not mapping.names.keys() & set(pair)) if mapping else TEXT_PAIRS
    pair = next((pair for pair in pairs if pair[0] in fields and pair[1] in fields), None)
    if pair is None and isinstance(fields.get("input"), list) and "output" in fields:
        pair = ("input", "output")  # an n-best list is recognized text; another input can be of any task
    if pair is None:
        found = ", ".join(map(repr, fields)) or "nothing"
        known = ", ".join(f"{question} + {answer}" for question, answer in TEXT_PAIRS)
        raise LineFault(f"no correction; found {found}; expected a correction row, or {known}", fix=MAP_FIELDS)
    return f"{pair[0]} + {pair[1]}", pair


def _check_types(fields: Mapping[str, Any], pair: Iterable[str]) -> None:
    for key, value in fields.items():
        kinds = (str,) if key in pair else _TYPES.get(key)
        if kinds and type(value) not in kinds:
            expected = " or ".join(_NAMES[kind] for kind in kinds)
            raise LineFault(f"'{key}' is {kind_of_value(fields[key])}, not {expected}")
    if fields.get("evidence_class", EVIDENCE[0]) not in EVIDENCE:
        raise LineFault(f"'evidence_class' is {fields['evidence_class']!r}; known are {', '.join(EVIDENCE)}")


def _scalars(scalars: dict[str, Any] | None) -> dict[str, float]:
    for name, value in (scalars or {}).items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise LineFault(f"'trajectory_scalars': '{name}' is {value!r}, not a finite number")
    return scalars or {}

"""Read the test rows of a finished run and recount their edits from the texts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thunder.text import distance
from thunder.text.comparable import comparable_text
from thunder.text.distance import ErrorCount, ErrorUnit
from thunder.text.row_fields import PARTITIONS, PREDICTION_FIELDS, UNKNOWN

PREDICTIONS, REFERENCES = "test_predictions.jsonl", "test_references.jsonl"
PROPOSALS = "predictions.jsonl"  # file that an evaluation writes
# name of an answer in a corrector's row -> its text field; the recorded edits are in the field edits_<name>
ANSWERS = {"asr": "asr_text", "before": "prediction_before", "after": "prediction_after"}


@dataclass(frozen=True)
class ScoredRow:
    """A test row with recounted edits. hypothesis: the recognizer's text, or the answer with the adapter.

    counts: edits in code points (NFC) of each text against the reference, by the name that results use ("" for the
    single text of a recognizer).
    """

    name: str
    partition: str
    script: str
    hypothesis: str
    reference: str
    counts: Mapping[str, ErrorCount]


def json_lines(path: Path, faults: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) for each line of a JSONL file; a line without an object is a fault."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError):
                cut = "" if line.endswith(b"\n") else "looks cut off: "
                faults.append(f"{path.name}:{number}: {cut}not JSON")
                continue
            if isinstance(fields, dict):
                yield number, fields
            else:
                faults.append(f"{path.name}:{number}: not an object")


def read_recognizer_rows(folder: Path, faults: list[str]) -> list[ScoredRow]:
    """Read the rows of a recognizer's run, predictions beside references; faults are added to `faults`."""
    predictions = list(json_lines(folder / PREDICTIONS, faults))
    references = list(json_lines(folder / REFERENCES, faults))
    if len(predictions) != len(references):
        faults.append(f"{PREDICTIONS} has {len(predictions)} rows, {REFERENCES} has {len(references)}")
    for name, rows in ((PREDICTIONS, predictions), (REFERENCES, references)):
        _note_duplicates(name, "feat_id", rows, faults)
    scored = []
    for (number, prediction), (reference_line, reference) in zip(predictions, references, strict=False):
        row_id = prediction.get("feat_id")
        if row_id != reference.get("feat_id"):
            faults.append(
                f"{PREDICTIONS}:{number} is {row_id!r}, {REFERENCES}:{reference_line} is {reference.get('feat_id')!r}: "
                "not in the same order"
            )
            break
        row = _recognizer_row(f"{PREDICTIONS}:{number}: row {row_id!r}", prediction, reference, faults)
        scored += [row] if row else []
    return scored


def _recognizer_row(
    where: str, prediction: Mapping[str, Any], reference_fields: Mapping[str, Any], faults: list[str]
) -> ScoredRow | None:
    wrong = [
        key for key, kinds in PREDICTION_FIELDS.items() if key not in prediction or type(prediction[key]) not in kinds
    ]
    if wrong:
        faults.append(f"{where}: {', '.join(map(repr, wrong))} missing or of the wrong type")
        return None
    for name, value in (prediction["trajectory_scalars"] or {}).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            faults.append(f"{where}: 'trajectory_scalars': '{name}' is {value!r}, not a finite number")
    reference = reference_fields.get("reference_text")
    if not isinstance(reference, str) or prediction.get("reference_text", reference) != reference:
        kind = "differs between the two files" if isinstance(reference, str) else "is missing"
        faults.append(f"{where}: 'reference_text' {kind}")
        return None
    counted = distance.count_errors(prediction["asr_text"], reference)
    expected = (("cer_edits", counted.edits), ("reference_chars", counted.reference_chars))
    _note_counts(where, prediction, expected, faults)
    partition = prediction["partition"] if prediction["partition"] in PARTITIONS else UNKNOWN
    return ScoredRow(
        str(prediction["feat_id"]), partition, prediction["script"], prediction["asr_text"], reference, {"": counted}
    )


def read_corrector_rows(folder: Path, faults: list[str]) -> list[ScoredRow]:
    """Read the rows of a corrector's run: input, the base's answer, the adapter's answer, reference."""
    rows = list(json_lines(folder / PREDICTIONS, faults))
    _note_duplicates(PREDICTIONS, "row_id", rows, faults)
    scored = []
    for number, fields in rows:
        where = f"{PREDICTIONS}:{number}: row {fields.get('row_id')!r}"
        texts = ("row_id", "reference_text", *ANSWERS.values())
        if wrong := [key for key in texts if not isinstance(fields.get(key), str)]:
            faults.append(f"{where}: {', '.join(map(repr, wrong))} missing or not a string")
            continue
        # the row keeps whitespace around a text, but scores ignore it: the chat template trims its input
        reference = comparable_text(fields["reference_text"])
        counts = {
            name: distance.count_errors(comparable_text(fields[text]), reference) for name, text in ANSWERS.items()
        }
        expected = [(f"edits_{name}", count.edits) for name, count in counts.items()]
        _note_counts(where, fields, [*expected, ("reference_chars", counts["asr"].reference_chars)], faults)
        partition, script = str(fields.get("partition") or UNKNOWN), str(fields.get("script") or UNKNOWN)
        answer = fields["prediction_after"].strip()
        scored.append(ScoredRow(fields["row_id"], partition, script, answer, reference, counts))
    return scored


def read_evaluation_rows(folder: Path, faults: list[str]) -> list[ScoredRow]:
    """Read the rows of an evaluation: input, proposal, final text (the proposal where it was accepted)."""
    rows = list(json_lines(folder / PROPOSALS, faults))
    _note_duplicates(PROPOSALS, "row_id", rows, faults)
    scored = []
    for number, fields in rows:
        where = f"{PROPOSALS}:{number}: row {fields.get('row_id')!r}"
        texts = ("row_id", "input", "proposal", "reference")
        wrong = [key for key in texts if not isinstance(fields.get(key), str)]
        wrong += [
            key for key in ("edits_before", "edits_proposal", "edits_after") if not isinstance(fields.get(key), dict)
        ]
        if wrong or not isinstance(fields.get("accepted"), bool):
            faults.append(f"{where}: {', '.join(map(repr, wrong)) or repr('accepted')} missing or of the wrong type")
            continue
        form = str(fields.get("normalize", "none"))
        reference = comparable_text(fields["reference"], form)
        before, proposal = (
            distance.count_errors(comparable_text(fields[key], form), reference) for key in ("input", "proposal")
        )
        counts = {"before": before, "proposal": proposal, "after": proposal if fields["accepted"] else before}
        recorded = {name: fields[f"edits_{name}"].get("codepoint") for name in counts}
        _note_counts(where, recorded, [(name, count.edits) for name, count in counts.items()], faults)
        partition, script = str(fields.get("partition") or UNKNOWN), str(fields.get("script") or UNKNOWN)
        result = fields["proposal" if fields["accepted"] else "input"].strip()
        scored.append(ScoredRow(fields["row_id"], partition, script, result, reference, counts))
    return scored


def _note_duplicates(name: str, key: str, rows: Iterable[tuple[int, Mapping[str, Any]]], faults: list[str]) -> None:
    first_lines: dict[Any, int] = {}
    for number, fields in rows:
        row_id = str(fields.get(key))
        if (earlier := first_lines.setdefault(row_id, number)) != number:
            faults.append(f"{name}:{number}: {key} {row_id!r} is already used at line {earlier}")


def _note_counts(
    where: str, recorded: Mapping[str, Any], counted: Iterable[tuple[str, int]], faults: list[str]
) -> None:
    for key, expected in counted:
        if recorded.get(key) != expected:
            faults.append(f"{where}: '{key}' is {recorded.get(key)!r}, the recomputed value is {expected}")


def error_rate_of_rows(rows: Iterable[ScoredRow], text: str = "") -> float | None:
    """Return the micro CER (code points, NFC) of one of the texts; None where it is not defined."""
    return sum((row.counts[text] for row in rows), ErrorCount()).rate


def _error_rate_in_unit(unit: ErrorUnit) -> Callable[[Sequence[ScoredRow]], float | None]:
    def error_rate(rows: Sequence[ScoredRow]) -> float | None:
        return sum((distance.count_errors(row.hypothesis, row.reference, unit) for row in rows), ErrorCount()).rate

    return error_rate


def _share(holds: Callable[[ScoredRow], bool]) -> Callable[[Sequence[ScoredRow]], float | None]:
    return lambda rows: sum(map(holds, rows)) / len(rows) if rows else None


# metrics that a table can have; rates are fractions, not percent
METRICS: dict[str, Callable[[Sequence[ScoredRow]], float | None]] = {
    "cer": _error_rate_in_unit("codepoint"),
    "cer_grapheme": _error_rate_in_unit("grapheme"),
    "cer_toneless": _error_rate_in_unit("toneless"),
    "wer": _error_rate_in_unit("word"),
    "exact": _share(lambda row: row.hypothesis == row.reference),
    "empty": _share(lambda row: not row.hypothesis.strip()),
    "rows": lambda rows: float(len(rows)),
    "chars": lambda rows: float(sum(len(distance.split_units(row.reference)) for row in rows)),
}

"""Join the predictions and references of a run by feat_id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from thunder.corpora.rows.jsonl_lines import JsonLines, LineFault, LineFaults, json_object, sound_object
from thunder.text.row_fields import use_text_ids

PREDICTED = ("asr_text", "hypothesis", "hyp", "prediction", "pred_text", "text")
REFERENCE = ("reference_text", "reference", "ref", "text")


def read_half(lines: JsonLines, faults: LineFaults) -> Iterator[tuple[str, tuple[int, bytes]]]:
    """Yield (feat_id, (line number, line)) of predictions or references; a line without a new feat_id is a fault."""
    seen: dict[int, int] = {}
    for number, line in lines:
        try:
            fields = json_object(line)
            use_text_ids(fields)
            feat_id = fields.get("feat_id")
            if not feat_id:
                raise LineFault("has no 'feat_id', which joins predictions and references")
            if (earlier := seen.setdefault(hash(feat_id), number)) != number:
                raise LineFault(f"feat_id {feat_id!r} is already used at line {earlier}")
        except (LineFault, ValueError) as fault:
            faults.add(f"{lines.path}:{number}: {fault}")
        else:
            yield feat_id, (number, line)


def sound_half(line: bytes) -> dict[str, Any]:
    """The object of a prediction or a reference, its ids as texts. Raises LineFault."""
    fields = sound_object(line)
    try:
        use_text_ids(fields)
    except ValueError as error:
        raise LineFault(str(error)) from None
    return fields


def join_halves(halves: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one row of a prediction and its reference. Raises LineFault where they contradict each other."""
    prediction, reference = halves
    texts = {}
    for half, name, known in ((prediction, "asr_text", PREDICTED), (reference, "reference_text", REFERENCE)):
        found = next((key for key in known if key in half), None)
        if found is None:
            raise LineFault(f"no text for '{name}'; expected one of {', '.join(known)}")
        texts[name] = half.pop(found)
    for key in prediction.keys() & reference.keys():
        if prediction[key] != reference[key]:
            raise LineFault(f"'{key}' is {prediction[key]!r} in the prediction and {reference[key]!r} in the reference")
    for half, name in ((prediction, "reference_text"), (reference, "asr_text")):
        if half.get(name, texts[name]) != texts[name]:
            raise LineFault(f"'{name}' differs between prediction and reference")
    return {**reference, **prediction, **texts}

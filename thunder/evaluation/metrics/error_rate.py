"""Character error rates of predictions, as micro averages that can be recomputed from the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from thunder.text import distance
from thunder.text.comparable import comparable_text
from thunder.text.distance import ErrorCount


def score_prediction(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of test_predictions.jsonl: its texts and their edits against the reference.

    row: row_id, asr_text, reference_text, prediction_before (of the base), prediction_after (with the adapter).
    Space around the four texts does not count, although the row keeps it: the chat template trims its inputs, so no
    answer can have the space around a reference.
    """
    reference = comparable_text(row["reference_text"])
    counts = {name: distance.count_errors(comparable_text(row[text]), reference) for name, text in TEXTS.items()}
    return {
        **row,
        "reference_chars": counts["asr"].reference_chars,
        **{f"edits_{name}": count.edits for name, count in counts.items()},
    }


TEXTS = {"asr": "asr_text", "before": "prediction_before", "after": "prediction_after"}


def summarize_predictions(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Micro CER (code points, NFC) of the recognized text, base and adapter, and counts of rows by change."""
    rows = list(rows)
    totals = {
        name: sum((ErrorCount(row[f"edits_{name}"], row["reference_chars"]) for row in rows), ErrorCount())
        for name in TEXTS
    }
    change = [row["edits_after"] - row["edits_before"] for row in rows]
    return {
        "rows": len(rows),
        "reference_chars": totals["asr"].reference_chars,
        "cer_asr": totals["asr"].rate,
        "cer_before": totals["before"].rate,
        "cer_after": totals["after"].rate,
        "improved": sum(edits < 0 for edits in change),
        "unchanged": sum(edits == 0 for edits in change),
        "worse": sum(edits > 0 for edits in change),
        "exact_before": sum(row["edits_before"] == 0 for row in rows),
        "exact_after": sum(row["edits_after"] == 0 for row in rows),
    }

"""Sum up judged rows: error rates before and after, improved and worse rows, and confidence bounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thunder.evaluation.metrics.proposal_flags import FLAGS
from thunder.statistics import bootstrap, clopper_pearson
from thunder.text import row_fields
from thunder.text.distance import ErrorCount
from thunder.text.row_fields import EVERY_PARTITION

JudgedRow = dict[str, Any]
# names of the error rates of each unit: code points, graphemes, without tones, words
RATE_NAMES = {"codepoint": "cer_{}", "grapheme": "cer_{}_grapheme", "toneless": "cer_{}_toneless", "word": "wer_{}"}
INPUT_CER_LIMITS = (0.0, 0.1, 0.3, 0.6)


@dataclass(frozen=True)
class BootstrapSettings:
    """Seed and number of resamples of the bootstrap."""

    seed: int = 0
    resamples: int = 2000


def summarize_rows(rows: Sequence[JudgedRow], drawing: BootstrapSettings = BootstrapSettings()) -> dict[str, Any]:
    """The part of results.json that derives from the rows alone.

    Rows with an empty reference have no error rate; they are counted under `empty_reference`.
    """
    counted = [row for row in rows if row["reference_units"]["codepoint"]]
    without_reference = [row for row in rows if not row["reference_units"]["codepoint"]]
    summary = summarize_group(counted, drawing)
    if not counted:
        summary |= {name: None for name in summary if name.startswith(("cer_", "wer_"))}
    summary["empty_reference"] = {
        "rows": len(without_reference),
        "insertions_before": sum(row["edits_before"]["codepoint"] for row in without_reference),
        "insertions_after": sum(row["edits_after"]["codepoint"] for row in without_reference),
    }
    summary["by"] = {
        name: {
            group: summarize_group([row for row in counted if key(row) == group], drawing)
            for group in sorted({key(row) for row in counted}, key=group_order)
        }
        for name, key in GROUPS.items()
    }
    if counted and "edits_base" in counted[0]:
        summary["base"] = summarize_group([base_as_proposal(row) for row in counted], drawing)
        summary["adapter_over_base"] = summarize_group(
            [row | {"edits_before": row["edits_base"]} for row in counted], drawing
        )
    return summary


def summarize_group(rows: Sequence[JudgedRow], drawing: BootstrapSettings) -> dict[str, Any]:
    """Counts and rates of some rows.

    improved, neutral and worse (by code points) count accepted proposals. worse_upper95 is the exact upper bound of the
    share of worse proposals among them, worse_upper95_of_changed among those that differ from the input. cer_blind: the
    rate if every proposal were accepted. cer_oracle: the rate if the better of input and proposal were always chosen.
    """
    accepted = [row for row in rows if row["accepted"]]
    change = [row["edits_after"]["codepoint"] - row["edits_before"]["codepoint"] for row in accepted]
    worse, changed = sum(edits > 0 for edits in change), sum(row["changed"] for row in accepted)
    chars = sum(row["reference_units"]["codepoint"] for row in rows)
    better = [min(row["edits_before"]["codepoint"], row["edits_proposal"]["codepoint"]) for row in rows]
    confidences = [row["confidence"] for row in rows if row["confidence"] is not None]
    return {
        "rows": len(rows),
        "reference_chars": chars,
        "edits_before": sum(row["edits_before"]["codepoint"] for row in rows),
        "edits_after": sum(row["edits_after"]["codepoint"] for row in rows),
        **_rates_with_intervals(rows, drawing),
        "cer_blind": ErrorCount(sum(row["edits_proposal"]["codepoint"] for row in rows), chars).rate,
        "cer_oracle": ErrorCount(sum(better), chars).rate,
        "accepted": len(accepted),
        "changed": changed,
        "improved": sum(edits < 0 for edits in change),
        "neutral": sum(edits == 0 for edits in change),
        "worse": worse,
        "worse_upper95": clopper_pearson.share_upper_bound(worse, len(accepted)),
        "worse_upper95_of_changed": clopper_pearson.share_upper_bound(worse, changed),
        "exact_before": sum(row["edits_before"]["codepoint"] == 0 for row in rows),
        "exact_after": sum(row["edits_after"]["codepoint"] == 0 for row in rows),
        "flags": {name: sum(name in row["flags"] for row in rows) for name in FLAGS},
        "evidence_class": dict(sorted(Counter(row["evidence_class"] or "not said" for row in rows).items())),
        "mean_confidence": sum(confidences) / len(confidences) if confidences else None,
    }


def base_as_proposal(row: JudgedRow) -> JudgedRow:
    """The row with the answer of the base as the proposal."""
    return row | {
        "proposal": row["proposal_base"],
        "confidence": row["confidence_base"],
        "flags": row["flags_base"],
        "accepted": True,
        "changed": row["changed_base"],
        "edits_proposal": row["edits_base"],
        "edits_after": row["edits_base"],
    }


def _rates_with_intervals(rows: Sequence[JudgedRow], drawing: BootstrapSettings) -> dict[str, Any]:
    """Micro rates before and after in every unit, and the change of each with its bootstrap interval."""
    before, after, units = (
        np.array([[row[key][unit] for unit in RATE_NAMES] for row in rows], np.int64).reshape(-1, len(RATE_NAMES))
        for key in ("edits_before", "edits_after", "reference_units")
    )
    intervals = bootstrap.change_intervals(after - before, units, seed=drawing.seed, resamples=drawing.resamples)
    rates_by_name: dict[str, Any] = {}
    for column, (name, interval) in enumerate(zip(RATE_NAMES.values(), intervals, strict=True)):
        of = int(units[:, column].sum())
        rates = [ErrorCount(int(edits[:, column].sum()), of).rate for edits in (before, after)]
        change = int((after - before)[:, column].sum()) / of if of else None
        rates_by_name |= dict(
            zip((name.format(when) for when in ("before", "after", "change")), (*rates, change), strict=True)
        )
        rates_by_name[f"{name.format('change')}_interval95"] = interval
    return rates_by_name


def length_group(row: JudgedRow) -> str:
    """The length bin of a row, by the code points of its reference."""
    return row_fields.length_bin(row["reference_units"]["codepoint"])


def input_cer_group(row: JudgedRow) -> str:
    """The bin of a row by the CER of its input; above 0.6 little of the text is left to repair."""
    return row_fields.bin_name(
        row["edits_before"]["codepoint"] / row["reference_units"]["codepoint"], INPUT_CER_LIMITS, ".1f"
    )


GROUPS: dict[str, Callable[[JudgedRow], str]] = {
    "partition": lambda row: row["partition"],
    "script": lambda row: row["script"],
    "length": length_group,
    "input_cer": input_cer_group,
}
_ORDER = [*EVERY_PARTITION]


def group_order(group: str) -> tuple[int, float, str]:
    """Sort key of a group: partitions in their own order, bins by their limits, others by name."""
    words = group.split()
    if words[0] in ("to", "over"):
        return 1, -1.0 if words[0] == "to" else float(words[1]), group
    return (0, float(_ORDER.index(group)), group) if group in _ORDER else (1, 0.0, group)

"""Field names, partitions and length bins of rows of recognized text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

PARTITIONS = ("stable", "boundary", "uncertain", "recovery", "novelty")
UNKNOWN = "unknown"
EVERY_PARTITION = (*PARTITIONS, UNKNOWN)

# fields of a recognizer's output row besides the reference, with their JSON types
PREDICTION_FIELDS: dict[str, tuple[type, ...]] = {
    "feat_id": (str,),
    "audio_id": (str, type(None)),
    "split": (str, type(None)),
    "script": (str,),
    "mode": (str, type(None)),
    "asr_text": (str,),
    "cer_edits": (int,),
    "reference_chars": (int,),
    "trajectory_scalars": (dict, type(None)),
    "partition": (str, type(None)),
}

# fields that name a row, in order, and all fields that name something: their values are texts
ID_FIELDS = ("id", "feat_id", "row_id")
TEXT_IDS = (*ID_FIELDS, "audio_id", "run_id")

LENGTH_LIMITS = (20, 50, 100, 200)  # code points of a reference


def use_text_ids(fields: dict[str, Any]) -> None:
    """Replace whole numbers in the fields of TEXT_IDS by texts: 7 and 7.0, as tables write it, become "7".

    Raises ValueError where a value is neither a text nor a whole number nor null.
    """
    for key in TEXT_IDS:
        value = fields.get(key)
        if value is None or isinstance(value, str):
            continue
        if isinstance(value, bool) or not (isinstance(value, int) or isinstance(value, float) and value.is_integer()):
            raise ValueError(f"'{key}' is {value!r:.60}, not a text or a whole number")
        fields[key] = str(int(value))


def row_id(fields: dict[str, Any], default: str) -> str:
    """The first id that a row names, else the default. Raises ValueError as `use_text_ids`."""
    use_text_ids(fields)
    return first_id(fields, default)


def first_id(fields: dict[str, Any], default: str) -> str:
    """The first id that a row names, whose ids are texts already, else the default."""
    return next((fields[key] for key in ID_FIELDS if fields.get(key)), default)


def bin_name(value: float, limits: Sequence[float], form: str) -> str:
    """Return the name of the first bin whose upper limit a value does not exceed; the last bin has no limit."""
    over = [limit for limit in limits if value > limit]
    to = f"to {limits[len(over)]:{form}}" if len(over) < len(limits) else ""
    return " ".join([*([f"over {over[-1]:{form}}"] if over else []), *([to] if to else [])])


def length_bin(code_points: int) -> str:
    """Return the length bin of a reference."""
    return bin_name(code_points, LENGTH_LIMITS, "d")


# the length bins, in order
LENGTH_BINS = tuple(length_bin(limit) for limit in (*LENGTH_LIMITS, LENGTH_LIMITS[-1] + 1))

"""Field names, partitions and length bins of rows of recognized text."""

from __future__ import annotations

from collections.abc import Sequence

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

LENGTH_LIMITS = (20, 50, 100, 200)  # code points of a reference


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

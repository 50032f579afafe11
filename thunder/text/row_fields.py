"""The words that rows of recognised text are written in: their fields, and the partitions that a text may be of."""

from __future__ import annotations

from collections.abc import Sequence

PARTITIONS = ("stable", "boundary", "uncertain", "novelty")
UNKNOWN = "unknown"
EVERY_PARTITION = (*PARTITIONS, UNKNOWN)

# of a recogniser's answer, beside its reference: what it says, and which JSON types that may be
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
    """The name of the first bin whose upper limit a value keeps; the last has none."""
    over = [limit for limit in limits if value > limit]
    to = f"to {limits[len(over)]:{form}}" if len(over) < len(limits) else ""
    return " ".join([*([f"over {over[-1]:{form}}"] if over else []), *([to] if to else [])])


def length_bin(code_points: int) -> str:
    """The bin of a reference by its length."""
    return bin_name(code_points, LENGTH_LIMITS, "d")


# the bins of lengths, in their order
LENGTH_BINS = tuple(length_bin(limit) for limit in (*LENGTH_LIMITS, LENGTH_LIMITS[-1] + 1))

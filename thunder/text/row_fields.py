"""The words that rows of recognised text are written in: their fields, and the partitions that a text may be of."""

from __future__ import annotations

PARTITIONS = ("stable", "boundary", "uncertain", "novelty")
UNKNOWN = "unknown"
EVERY_PARTITION = (*PARTITIONS, UNKNOWN)

# of a recogniser's answer, beside its reference: what it says, and which JSON types that may be
FIELDS: dict[str, tuple[type, ...]] = {
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

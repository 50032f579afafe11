"""Count edits by partition: a reference character has the partition of the frames that it is aligned to."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from thunder.acoustic.decoding.alignment import label_partitions, viterbi_align
from thunder.acoustic.labels import frames_needed
from thunder.acoustic.trajectory import partitions
from thunder.text import distance
from thunder.text.row_fields import EVERY_PARTITION, UNKNOWN

Form = Literal["NFC", "NFD"]


def character_partitions(
    log_probs: np.ndarray, labels: Sequence[int], text: str, form: Form, scalars: np.ndarray, limits: np.ndarray
) -> list[str]:
    """The partition of each code point of a reference text (NFC), by the best path of log_probs [T', V].

    form: normal form in which one character is one label. scalars: [T', 7]; limits: [3], for frames. Every partition is
    unknown if the frames are too few for the labels.
    """
    if frames_needed(labels) > len(log_probs):
        return [UNKNOWN] * len(text)
    of_frames = [partitions.FRAME_PARTITIONS[place] for place in partitions.partition_frames(scalars, limits)]
    by_label = label_partitions(viterbi_align(log_probs, labels), of_frames)
    character_partitions, position = [], 0
    for character in text:
        character_partitions.append(by_label[position])
        position += len(unicodedata.normalize(form, character))
    assert position == len(by_label), f"{text!r} has {position} labels, not {len(by_label)}"
    return character_partitions


def edit_counts(recognized: str, reference: str, partitions: Sequence[str]) -> dict[str, list[int]]:
    """Partition -> [edits, reference characters]; an insertion counts in the partition of the next character.

    reference: NFC, not empty. The sums equal those of `distance.count_errors`.
    """
    chars = Counter(partitions)
    edits = Counter(
        partitions[min(step.position, len(partitions) - 1)]
        for step in distance.align_texts(recognized, reference, equal=False)
    )
    return {name: [edits[name], chars[name]] for name in EVERY_PARTITION if chars[name]}

"""Edits by partition: each reference character belongs to the partition of the frames that it is aligned to."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from thunder.acoustic.decoding.alignment import partition_of_labels, viterbi
from thunder.acoustic.labels import frames_needed
from thunder.acoustic.trajectory import partitions
from thunder.text import distance
from thunder.text.row_fields import EVERY_PARTITION, PARTITIONS, UNKNOWN

Form = Literal["NFC", "NFD"]


def partitions_of(
    log_probs: np.ndarray, labels: Sequence[int], text: str, form: Form, scalars: np.ndarray, limits: np.ndarray
) -> list[str]:
    """The partition of each code point of a reference text (NFC), by the best path of log_probs [T', V].

    form: the normal form in which one character is one label. scalars: [T', 7]; limits: of frames. All are unknown
    where the labels have no room in the frames.
    """
    if frames_needed(labels) > len(log_probs):
        return [UNKNOWN] * len(text)
    places = partitions.of_frames(scalars, limits)
    of_labels = partition_of_labels(viterbi(log_probs, labels), [PARTITIONS[place] for place in places])
    found, at = [], 0
    for character in text:
        found.append(of_labels[at])
        at += len(unicodedata.normalize(form, character))
    assert at == len(of_labels), f"{text!r} has {at} labels, not {len(of_labels)}"
    return found


def counts(heard: str, reference: str, of_characters: Sequence[str]) -> dict[str, list[int]]:
    """Partition -> [edits, reference characters]; a character put in counts where the one after it is.

    reference: NFC, not empty. The sums are those of `distance.count_errors`.
    """
    chars = Counter(of_characters)
    edits = Counter(
        of_characters[min(step.position, len(of_characters) - 1)]
        for step in distance.align_texts(heard, reference, equal=False)
    )
    return {name: [edits[name], chars[name]] for name in EVERY_PARTITION if chars[name]}

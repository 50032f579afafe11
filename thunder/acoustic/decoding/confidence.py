"""How sure a head is of a text, and whether it found no speech at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thunder.acoustic.decoding.alignment import viterbi_align
from thunder.acoustic.decoding.beam_search import greedy_decode
from thunder.errors import CorpusError

# where each frame's blank is at least so probable, a text comes from the language model alone
SPEECHLESS_BLANK = 0.9


def is_speechless(log_probs: np.ndarray, blank: int = 0) -> bool:
    """True if every one of [T, V] frames is blank with a probability of at least `SPEECHLESS_BLANK`."""
    return bool((log_probs[:, blank] >= np.log(SPEECHLESS_BLANK)).all())


def text_confidence(log_probs: np.ndarray, labels: Sequence[int], blank: int = 0) -> float:
    """Geometric mean of the probabilities of the labels over their frames, on the best path of [T, V] that spells them.

    For no labels: of the blank, over all frames. 0 if no path spells the labels.
    """
    if not len(log_probs):
        return 0.0
    values = np.asarray(log_probs, np.float64)
    if not len(labels):
        return float(np.exp(values[:, blank].mean()))
    if list(labels) == greedy_decode(log_probs, blank):
        best = values.max(1)[values.argmax(1) != blank]
        return float(np.exp(best.mean()))
    try:
        spans = viterbi_align(values, labels, blank)
    except CorpusError:
        return 0.0
    frames = [values[first : last + 1, label] for (first, last), label in zip(spans, labels, strict=True)]
    return float(np.exp(np.concatenate(frames).mean()))

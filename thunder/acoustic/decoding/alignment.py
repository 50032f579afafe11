"""Forced alignment: the frames of each label on the best CTC path of a known label sequence (Viterbi)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np

from thunder.errors import CorpusError, UsageError

Part = TypeVar("Part", bound=Hashable)


def viterbi_align(log_probs: np.ndarray, labels: Sequence[int], blank: int = 0) -> list[tuple[int, int]]:
    """First and last frame of each of U labels on the most probable path of log_probs [T, V] that spells them.

    Among equally probable paths, the one that advances latest. Raises CorpusError if no path spells the labels: fewer
    frames than labels plus the blanks between equal ones, or a probability of zero on every path. Raises UsageError for
    inconsistent shapes, NaN and +inf, and for labels outside the alphabet or equal to the blank.
    """
    values, ids = np.asarray(log_probs, np.float64), np.asarray(labels, np.int64)
    _check_inputs(values, ids, blank)
    repeats = int((ids[1:] == ids[:-1]).sum())
    if len(values) < len(ids) + repeats:
        raise CorpusError(
            f"{len(values)} frames cannot spell {len(ids)} labels with {repeats} repeats",
            fix="subsample the features less, or exclude the utterance",
        )
    if not len(ids):
        return []
    # a blank before, between and after the labels
    states = np.full(2 * len(ids) + 1, blank)
    states[1::2] = ids
    backpointers = _best_backpointers(values, states, blank)
    if backpointers is None:
        raise CorpusError(
            f"no path of {len(values)} frames spells the {len(ids)} labels: each has a probability of zero",
            fix="give log probabilities of a softmax, which are all finite",
        )
    return _spans(backpointers, len(states))


def _check_inputs(values: np.ndarray, ids: np.ndarray, blank: int) -> None:
    if values.ndim != 2 or ids.ndim != 1 or not 0 <= blank < values.shape[1]:
        raise UsageError(f"log probabilities {values.shape}, labels {ids.shape}, blank {blank}", "[T, V] and [U]")
    if not (values < np.inf).all():
        raise UsageError("the log probabilities have NaN or +inf", "check the model's outputs and its features")
    invalid = sorted({int(label) for label in ids if not 0 <= label < values.shape[1] or label == blank})
    if invalid:
        raise UsageError(
            f"labels {invalid} are the blank ({blank}) or not among the {values.shape[1]} outputs",
            "give the labels of the model's own alphabet",
        )


def _best_backpointers(values: np.ndarray, states: np.ndarray, blank: int) -> np.ndarray | None:
    """[T + 1, S]: states (0, 1 or 2) by which the best path advanced to each state; None if no path arrives.

    The last row is all equal, and selects where the path ends: 0 for the last state, 1 for the one before.
    """
    count = len(states)
    may_skip = np.zeros(count, bool)
    may_skip[2:] = (states[2:] != blank) & (states[2:] != states[:-2])
    backpointers = np.zeros((len(values), count), np.int8)
    best = np.full(count, -np.inf)
    best[:2] = values[0, states[:2]]
    candidates = np.full((3, count), -np.inf)
    for frame in range(1, len(values)):
        candidates[0] = best
        candidates[1, 1:] = best[:-1]
        candidates[2, 2:] = np.where(may_skip[2:], best[:-2], -np.inf)
        # argmax returns the first maximum: staying wins over stepping
        backpointers[frame] = candidates.argmax(0)
        best = candidates.max(0) + values[frame, states]
    if max(best[-1], best[-2]) == -np.inf:
        return None
    return np.vstack([backpointers, np.full(count, int(best[-2] > best[-1]), np.int8)])


def _spans(backpointers: np.ndarray, count: int) -> list[tuple[int, int]]:
    """First and last frame of each label, traced back through the backpointers."""
    first, last = [0] * count, [-1] * count
    state = count - 1
    for frame in range(len(backpointers) - 2, -1, -1):
        state -= int(backpointers[frame + 1, state])
        first[state] = frame
        last[state] = max(last[state], frame)
    return list(zip(first[1::2], last[1::2], strict=True))


def label_partitions(spans: Sequence[tuple[int, int]], partitions: Sequence[Part]) -> list[Part]:
    """The most frequent partition in each label's span; the earliest one if there is a tie.

    spans: first and last frames, as from `viterbi_align`. partitions: one for each of T frames.
    """
    return [Counter(partitions[first : last + 1]).most_common(1)[0][0] for first, last in spans]

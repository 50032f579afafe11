import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.acoustic.decoding.alignment import label_partitions, viterbi_align
from thunder.errors import CorpusError, UsageError


def random_log_probs(frames: int, size: int, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(frames, size)) * 2
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def spans_of(path, blank: int) -> list[tuple[int, int]]:
    runs = [(label, [frame for frame, _ in run]) for label, run in itertools.groupby(enumerate(path), lambda x: x[1])]
    return [(run[0], run[-1]) for label, run in runs if label != blank]


def best_by_paths(log_probs: np.ndarray, labels, blank: int):
    """The best of all paths that collapse to the labels, tried one by one."""
    frames, size = log_probs.shape
    found = None, -np.inf
    for path in itertools.product(range(size), repeat=frames):
        if [label for label, _ in itertools.groupby(path) if label != blank] == list(labels):
            score = log_probs[range(frames), path].sum()
            found = (path, score) if found[0] is None or score > found[1] else found
    return found[0]


@given(st.integers(1, 6), st.integers(2, 3), st.integers(0, 9999), st.integers(0, 1), st.data())
@settings(max_examples=80)
def test_it_is_the_best_of_all_paths_or_there_is_none(frames, size, seed, blank, data):
    letters = [label for label in range(size) if label != blank]
    labels = data.draw(st.lists(st.sampled_from(letters), max_size=4))
    log_probs = random_log_probs(frames, size, seed)
    best = best_by_paths(log_probs, labels, blank)
    if best is None:
        with pytest.raises(CorpusError, match=f"{frames} frames cannot spell {len(labels)} labels"):
            viterbi_align(log_probs, labels, blank)
    else:
        assert viterbi_align(log_probs, labels, blank) == spans_of(best, blank)


@given(st.integers(20, 60), st.lists(st.integers(1, 4), min_size=1, max_size=10), st.integers(0, 999))
@settings(max_examples=30)
def test_spans_are_in_order_and_a_blank_parts_equal_labels(frames, labels, seed):
    spans = viterbi_align(random_log_probs(frames, 5, seed), labels)
    assert all(0 <= first <= last < frames for first, last in spans)
    for (_, before), (after, _), one, other in zip(spans, spans[1:], labels, labels[1:], strict=False):
        assert after - before > (one == other)


def test_a_path_that_is_nearly_certain_is_found_as_it_is():
    path = [0, 2, 2, 0, 2, 1, 1, 1, 3, 0]
    log_probs = np.full((len(path), 4), -9.0)
    log_probs[range(len(path)), path] = -0.01
    assert viterbi_align(log_probs, [2, 2, 1, 3]) == [(1, 2), (4, 4), (5, 7), (8, 8)]


def test_no_labels_take_no_frames():
    assert viterbi_align(random_log_probs(3, 3, 0), []) == []
    assert viterbi_align(np.zeros((0, 3)), []) == []


def test_where_every_path_is_impossible_it_says_so():
    log_probs = np.zeros((4, 3))
    log_probs[:, 1] = -np.inf
    with pytest.raises(CorpusError, match="probability of zero"):
        viterbi_align(log_probs, [1])


@pytest.mark.parametrize(
    ("log_probs", "labels", "said"),
    [
        (np.zeros((4, 3)), [0], r"\[0\] are the blank"),
        (np.zeros((4, 3)), [1, 3, -1], r"\[-1, 3\]"),
        (np.full((4, 3), np.nan), [1], "NaN"),
        (np.full((4, 3), np.inf), [1], "inf"),
        (np.zeros(4), [1], r"\(4,\)"),
    ],
)
def test_what_does_not_fit_is_named(log_probs, labels, said):
    with pytest.raises(UsageError, match=said):
        viterbi_align(log_probs, labels)


def test_a_label_is_in_the_partition_of_most_of_its_frames():
    partitions = ["stable", "stable", "boundary", "novelty", "boundary", "uncertain"]
    assert label_partitions([(0, 2), (3, 4), (5, 5)], partitions) == ["stable", "novelty", "uncertain"]
    assert label_partitions([(0, 2)], np.array([3, 1, 1])) == [1]

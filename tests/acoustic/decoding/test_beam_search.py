import itertools

import numpy as np
import pytest
from ctc_paths import WIDE, by_paths, collapsed, random_log_probs
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.acoustic.decoding.beam_search import greedy_decode, prefix_beam_search
from thunder.acoustic.decoding.label_graph import LabelGraph
from thunder.errors import UsageError

SHAPES = [(1, 2), (2, 2), (5, 2), (3, 3), (5, 3), (6, 3), (4, 4), (5, 4)]


def bigrams(size: int, seed: int) -> tuple[LabelGraph, dict, np.ndarray]:
    """A language model whose state is the last label, its table, and its weights of an end."""
    table = random_log_probs(size, size, seed)
    ends = random_log_probs(1, size, seed + 1)[0]
    return LabelGraph(size, 0, lambda state: (table[state], range(size)), lambda state: ends[state]), table, ends


@pytest.mark.parametrize(("frames", "size"), SHAPES)
@pytest.mark.parametrize("blank", [0, 1])
def test_a_wide_beam_is_the_sum_over_all_paths(frames, size, blank):
    log_probs = random_log_probs(frames, size, seed=frames * 10 + size)
    found = prefix_beam_search(log_probs, beam=WIDE, blank=blank)
    wanted = by_paths(log_probs, blank)
    assert {one.labels for one in found} == wanted.keys()
    for one in found:
        assert one.acoustic == pytest.approx(wanted[one.labels], abs=1e-9)
        assert one.score == one.acoustic
    assert [one.score for one in found] == pytest.approx(sorted(wanted.values(), reverse=True), abs=1e-9)


@given(st.integers(1, 5), st.integers(2, 4), st.integers(0, 999), st.floats(0.1, 2.0), st.floats(-2.0, 2.0))
@settings(max_examples=40)
def test_with_a_language_model_the_best_is_that_of_all_labellings(frames, size, seed, weight, bonus):
    log_probs = random_log_probs(frames, size, seed)
    graph, table, ends = bigrams(size, seed)
    found = prefix_beam_search(log_probs, beam=WIDE, language_model=graph, lm_weight=weight, insertion_bonus=bonus)
    wanted = {}
    for labels, acoustic in by_paths(log_probs, 0).items():
        lm = sum(table[before, label] for before, label in itertools.pairwise((0, *labels))) + ends[(0, *labels)[-1]]
        wanted[labels] = acoustic + weight * lm + bonus * len(labels), lm
    assert [one.labels for one in found] == sorted(wanted, key=lambda labels: -wanted[labels][0])
    for one in found:
        assert (one.score, one.lm) == pytest.approx(wanted[one.labels], abs=1e-9)


@given(st.integers(1, 30), st.integers(2, 6), st.integers(0, 999), st.integers(1, 12))
@settings(max_examples=40)
def test_a_narrow_beam_gives_different_labellings_never_more_probable_than_they_are(frames, size, seed, beam):
    log_probs = random_log_probs(frames, size, seed)
    found = prefix_beam_search(log_probs, beam=beam)
    assert 1 <= len(found) <= beam
    assert len({one.labels for one in found}) == len(found)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    wide = {one.labels: one.acoustic for one in prefix_beam_search(log_probs[:6], beam=WIDE)} if size < 4 else {}
    for one in prefix_beam_search(log_probs[:6], beam=beam) if wide else []:
        assert one.acoustic <= wide[one.labels] + 1e-9
    assert prefix_beam_search(log_probs, beam=beam) == found


@given(st.integers(1, 12), st.integers(2, 5), st.integers(0, 999), st.integers(0, 1))
@settings(max_examples=60)
def test_greedy_is_the_collapsed_path_of_the_best_outputs(frames, size, seed, blank):
    log_probs = random_log_probs(frames, size, seed)
    assert tuple(greedy_decode(log_probs, blank)) == collapsed(log_probs.argmax(1).tolist(), blank)


def test_a_thousand_frames_of_tiny_probabilities_do_not_underflow():
    log_probs = np.full((1000, 4), -800.0)
    log_probs[::3, 1] = -700.0
    best = prefix_beam_search(log_probs, beam=8)[0]
    assert np.isfinite(best.score) and best.score > 1000 * -800.0


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_outputs_of_probability_zero_are_never_spoken():
    log_probs = np.log([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.25, 0.75, 0.0]])
    found = {one.labels: one.acoustic for one in prefix_beam_search(log_probs, beam=50)}
    assert found == {
        (1,): pytest.approx(np.log(0.5 * 0.75 + 0.5 * 0.25)),
        (1, 1): pytest.approx(np.log(0.375)),
        (): pytest.approx(np.log(0.125)),
    }


def test_no_frames_is_the_empty_text():
    assert greedy_decode(np.zeros((0, 3))) == []
    assert [one.labels for one in prefix_beam_search(np.zeros((0, 3)))] == [()]


def broken(value: float) -> np.ndarray:
    log_probs = random_log_probs(4, 3, 0)
    log_probs[2, 1] = value
    return log_probs


@pytest.mark.parametrize(
    ("log_probs", "options", "said"),
    [
        (broken(np.nan), {}, "frame 2 of 4"),
        (broken(np.inf), {}, "frame 2 of 4"),
        (np.full((2, 3), -np.inf), {}, "frame 0 of 2"),
        (np.zeros(3), {}, "(3,)"),
        (np.zeros((2, 3)), {"blank": 3}, "blank 3"),
        (np.zeros((2, 3)), {"beam": 0}, "beam is 0"),
        (np.zeros((2, 3)), {"lm_weight": -1.0}, "-1"),
        (np.zeros((2, 3)), {"language_model": bigrams(4, 0)[0]}, "has 4 labels"),
        (np.zeros((2, 3)), {"allowed": bigrams(4, 0)[0]}, "has 4 labels"),
    ],
)
def test_what_cannot_be_decoded_is_named(log_probs, options, said):
    with pytest.raises(UsageError) as caught:
        prefix_beam_search(log_probs, **options)
    assert said in caught.value.message

"""The confidence of a text is the mean probability of its labels; blank frames alone are no speech."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from thunder.acoustic.decoding.beam_search import greedy_decode
from thunder.acoustic.decoding.confidence import is_speechless, text_confidence


def log_probs(*rows):
    return np.log(np.array(rows, np.float32))


SURE = log_probs([0.1, 0.8, 0.1], [0.9, 0.05, 0.05], [0.1, 0.2, 0.7], [0.1, 0.4, 0.5])


def test_of_the_best_path():
    assert greedy_decode(SURE) == [1, 2]
    assert text_confidence(SURE, [1, 2]) == pytest.approx((0.8 * 0.7 * 0.5) ** (1 / 3))


@pytest.mark.parametrize("labels", [[1], [2], [2, 1], [1, 1], [1, 2, 1]])
def test_of_another_text_it_is_that_of_the_most_probable_path(labels):
    """All paths are tried."""
    probs = np.exp(SURE.astype(np.float64))

    def spelled(path):
        return [one for one, before in zip(path, (0, *path), strict=False) if one and one != before]

    def probability(path):
        return np.prod([frame[one] for frame, one in zip(probs, path, strict=True)])

    best = max((path for path in product(range(3), repeat=4) if spelled(path) == labels), key=probability)
    kept = [frame[one] for frame, one in zip(probs, best, strict=True) if one]
    assert text_confidence(SURE, labels) == pytest.approx(np.prod(kept) ** (1 / len(kept)))


def test_of_no_text_it_is_that_of_the_blank():
    assert text_confidence(log_probs([0.9, 0.1], [0.4, 0.6]), []) == pytest.approx((0.9 * 0.4) ** 0.5)
    assert text_confidence(SURE[:1], [1, 2]) == 0  # one frame cannot spell two labels
    assert text_confidence(SURE[:0], []) == 0


def test_speechless_is_where_every_frame_is_blank():
    assert is_speechless(log_probs([0.91, 0.09], [0.99, 0.01]))
    assert not is_speechless(log_probs([0.89, 0.11], [0.99, 0.01]))

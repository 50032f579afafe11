"""Label graphs in a beam: only allowed labels are found, and only texts that may end."""

import itertools

import numpy as np
import pytest
from ctc_paths import WIDE, by_paths, random_log_probs

from thunder.acoustic.decoding.beam_search import prefix_beam_search
from thunder.acoustic.decoding.label_graph import LabelGraph


def test_only_what_is_allowed_is_found_and_only_what_may_end():
    log_probs = random_log_probs(5, 3, 7)
    # label 2 only after 1, and no text ends in 1
    weights = {0: [-np.inf, 0.0, -np.inf], 1: [-np.inf, 0.0, 0.0], 2: [-np.inf, 0.0, -np.inf]}
    graph = LabelGraph(
        3, 0, lambda state: (np.array(weights[state]), range(3)), lambda state: -np.inf if state == 1 else 0.0
    )
    found = prefix_beam_search(log_probs, beam=WIDE, allowed=graph)
    wanted = {
        labels: score
        for labels, score in by_paths(log_probs, 0).items()
        if all(before == 1 or label == 1 for before, label in itertools.pairwise((0, *labels))) and labels[-1:] != (1,)
    }
    assert {one.labels: pytest.approx(one.acoustic, abs=1e-9) for one in found} == wanted
    assert all(one.complete for one in found)


def test_where_nothing_may_end_the_beginnings_are_given_and_say_so():
    never = LabelGraph(3, 0, lambda state: (np.zeros(3), [0] * 3), lambda state: -np.inf)
    found = prefix_beam_search(random_log_probs(3, 3, 1), beam=4, allowed=never)
    assert len(found) == 4 and not any(one.complete for one in found)

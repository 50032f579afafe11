"""The very texts that MLX would compile for Metal, run in lock-step on this CPU and compared with the references."""

from __future__ import annotations

import numpy as np
import pytest
from emulator import lint
from emulator.lane import ORDERS, Lane
from gpu_shapes import assert_close, ctc_results, kernels, needs_compiler, ttt_cases, ttt_results, use_lane

pytestmark = pytest.mark.expensive

needs_clang = pytest.mark.skipif(not lint.CLANG, reason="clang is not installed")


@needs_compiler
def test_a_blank_at_the_alphabets_end_and_the_bits_of_all_orders_agree(monkeypatch):
    results = []
    for order in ORDERS:
        use_lane(monkeypatch, Lane("plain", order))
        results.append(ctc_results((2, 21, 6, 9), "metal", blank=8) + ttt_results(ttt_cases()[6], "metal"))
    assert_close(results[0][:2], ctc_results((2, 21, 6, 9), "reference", blank=8))
    for result in results[1:]:
        assert all(np.array_equal(one, two) for one, two in zip(results[0], result, strict=True))


CHECKED = [ttt_cases()[place] for place in (6, 35, 13, 23)]


@needs_compiler
@pytest.mark.parametrize("build", ["asan", "tsan"])
@pytest.mark.parametrize("index", [0, *(pytest.param(index, marks=pytest.mark.slow) for index in range(1, 4))])
def test_memory_and_race_checks_have_nothing_to_say(build, index, monkeypatch):
    use_lane(monkeypatch, Lane(build, "random"))
    ttt_results(CHECKED[index], "metal")
    ctc_results([(2, 20, 9, 70), (1, 35, 31, 12), (3, 1, 0, 2), (1, 40, 16, 66)][index], "metal")


@kernels
def test_no_word_that_apples_compiler_refuses(kernel):
    assert lint.words(kernel.source_text()) == []


@needs_clang
@kernels
def test_address_spaces_and_types_pass_a_front_end(kernel):
    assert lint.front(kernel, kernel.source_text(), lint.example_inputs(kernel), lint.example(kernel)) == ""

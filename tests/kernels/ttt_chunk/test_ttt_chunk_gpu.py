"""The chunk update's Metal text, run in lock-step on this CPU, equals the reference at 42 shapes."""

from __future__ import annotations

import pytest
from emulator.lane import Lane
from gpu_shapes import assert_close, in_orders, needs_compiler, ttt_cases, ttt_results, use_lane

pytestmark = pytest.mark.expensive


@needs_compiler
@pytest.mark.parametrize(("case", "order"), in_orders(ttt_cases()))
def test_the_chunk_update_equals_its_reference(case, order, monkeypatch):
    lane = Lane("plain", order)
    use_lane(monkeypatch, lane)
    assert_close(ttt_results(case, "metal"), ttt_results(case, "reference"), case.dtype)
    assert lane.runs >= 3  # forwards, replay, backwards

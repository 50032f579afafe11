"""CTC's Metal text, run in lock-step on this CPU, equals the reference at 42 shapes."""

from __future__ import annotations

import pytest
from emulator.lane import Lane
from gpu_shapes import assert_close, ctc_cases, ctc_results, in_orders, needs_compiler, use_lane

pytestmark = pytest.mark.expensive


@needs_compiler
@pytest.mark.parametrize(("case", "order"), in_orders(ctc_cases()))
def test_ctc_equals_its_reference(case, order, monkeypatch):
    lane = Lane("plain", order)
    use_lane(monkeypatch, lane)
    assert_close(ctc_results(case, "metal"), ctc_results(case, "reference"))
    assert lane.runs == 2

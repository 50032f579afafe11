"""What is measured of a machine, with small sizes and a clock of our own."""

from __future__ import annotations

import itertools

import pytest

from thunder.training.shapes import calibration


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(calibration, "MATRICES", ((8, 64, 64), (16, 64, 128)))
    monkeypatch.setattr(calibration, "LENGTHS", (8, 16))
    monkeypatch.setattr(calibration, "COPIES", (1024, 4096))


def ticking(seconds):
    """A clock on which each turn takes so long, whatever the machine does."""
    count = itertools.count()
    return lambda: next(count) * seconds


def test_rates_are_the_work_by_the_clock(small):
    found = list(calibration.measure_rates(clock=ticking(0.03)))
    assert [each.kind for each in found] == [kind for kind in KINDS for _ in range(2)]
    rates = {(each.kind, each.size): each.rate * each.seconds for each in found}
    assert rates["float32", "16 x 64 x 128"] == pytest.approx(16 * 64 * 128)
    assert rates["quantised", "8 x 64 x 64"] == pytest.approx(8 * 64 * 64)
    assert rates["attention", "8 heads of 256, 16 tokens"] == pytest.approx(2 * 16 * 16 * 8 * 256)
    assert all(each.seconds == pytest.approx(0.03) for each in found)
    chip = calibration.chip_from_measurements("Some CPU", found, 40, 40, "measured now")
    assert chip.float32 == pytest.approx(16 * 64 * 128 / 0.03) and chip.bandwidth == pytest.approx(2 * 4096 / 0.03)
    assert (chip.name, chip.source, chip.memory) == ("Some CPU", "measured now", None)


def test_a_size_that_would_take_too_long_is_left_out(small):
    found = list(calibration.measure_rates(at_most=0.05, clock=ticking(0.03)))
    assert [each.kind for each in found] == list(KINDS), "the second of each kind is four times the first"


KINDS = ("float32", "reduced", "quantised", "attention", "bandwidth")


def test_a_real_clock_gives_rates_above_nothing(small, monkeypatch):
    monkeypatch.setattr(calibration, "AT_LEAST", 0.001)
    assert all(each.rate > 0 and each.seconds > 0 for each in calibration.measure_rates())

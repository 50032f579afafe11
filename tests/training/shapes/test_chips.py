"""Chips: published and measured rates, and the names that they are found by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from thunder.errors import UsageError
from thunder.training.shapes import chips

PUBLISHED = chips.published_chips()


def test_a_chip_is_found_by_either_name_and_an_unknown_one_lists_the_others():
    assert chips.find_chip("M4 Pro", PUBLISHED) is chips.find_chip("Apple M4 Pro", PUBLISHED)
    with pytest.raises(UsageError) as caught:
        chips.find_chip("M4 Por", PUBLISHED)
    assert "M4 Pro" in caught.value.message and "thunder calibrate" in caught.value.fix


def test_of_each_family_the_larger_chip_is_no_slower():
    for family in ("M1", "M2", "M3", "M4", "M5"):
        members = [PUBLISHED[f"Apple {family}{kind}"] for kind in ("", " Pro", " Max")]
        for slow, fast in zip(members, members[1:], strict=False):
            assert slow.float32 < fast.float32 and slow.bandwidth < fast.bandwidth
            assert slow.megabytes <= fast.megabytes


def test_what_was_measured_takes_the_published_figures_place(tmp_path):
    chip = replace(PUBLISHED["Apple M4"], float32=1.5e12, source="measured on 2026-11-21")
    path = chips.save_measured_chip(tmp_path / "deep", chip, versions={"mlx": "1"})
    chips.save_measured_chip(tmp_path / "deep", replace(chip, name="Some CPU"))
    found = chips.known_chips(chips.read_measured_chips(tmp_path / "deep"))
    assert found["Apple M4"] == chip and found["Some CPU"].source == chip.source
    assert found["Apple M4 Pro"] == PUBLISHED["Apple M4 Pro"]
    for damage in ("", "[]", '{"Apple M4": 3}', '{"Apple M4": {"float32": 1}}', "{" * 5):
        path.write_text(damage)
        assert chips.known_chips(chips.read_measured_chips(tmp_path / "deep")) == PUBLISHED

"""Quantities with units: they are printed short, and sizes that people write are read."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunder import units


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1536, "1.5 kB"), (2_000_000, "2.0 MB"), (3.25e9, "3.2 GB"), (12e15, "12000.0 TB")],
)
def test_bytes(count, text):
    assert units.format_bytes(count) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("300", 300),
        ("4GB", 4 * 10**9),
        ("1.5 GB", 1_500_000_000),
        (" 500mb ", 500 * 10**6),
        ("2kB", 2000),
        ("7B", 7),
        ("2G", 2 * 10**9),
    ],
)
def test_sizes_that_people_write(text, count):
    assert units.parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "4GiB", "1e9", "four", "1,5 GB"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="expected a size such as 4GB"):
        units.parse_bytes(text)


@given(st.integers(0, 10**14))
def test_a_printed_size_reads_back_to_its_last_digit(count):
    unit = 1000 ** min((len(str(count)) - 1) // 3, 4)
    assert abs(units.parse_bytes(units.format_bytes(count)) - count) <= 0.05 * unit + 1


@pytest.mark.parametrize(("seconds", "text"), [(0.25, "0.2 s"), (59.9, "59.9 s"), (75, "1:15"), (3700, "1:01:40")])
def test_seconds(seconds, text):
    assert units.format_seconds(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(999, "999"), (1000, "1 k"), (1_234_567, "1.23 M"), (2.5e9, "2.5 G")])
def test_counts(count, text):
    assert units.format_count(count) == text


def test_a_path_below_the_working_directory_is_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert units.format_path(tmp_path / "runs" / "a") == "runs/a"
    assert units.format_path(Path("runs/a")) == "runs/a"
    assert units.format_path(tmp_path.parent / "b") == str(tmp_path.parent / "b")

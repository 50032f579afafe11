"""Rendered tables: LaTeX escapes its signs, and prose gets the numbers of the runs."""

from __future__ import annotations

import statistics

import pytest
from planted_tables import build, cells, cer_of, sealed_runs_and_spec

from thunder.errors import ConfigError
from thunder.runs.tables import render_tables


@pytest.fixture
def root(tmp_path):
    return sealed_runs_and_spec(tmp_path)


def test_numbers_in_prose(root):
    build(root)
    rates = [100 * cer_of(root, f"base-{seed}") for seed in (1, 2, 3)]
    assert f"reaches {statistics.fmean(rates):.2f} %." in (root / "paper.md").read_text()
    assert "of 20 rows." in (root / "paper.md").read_text()
    assert "prose/base/cer" in cells(root)


def test_places_in_prose_that_mean_nothing(root):
    (root / "paper.md.in").write_text("{{cer:base}}\n{{crr:base}} {{cer:nobody}}\n")
    with pytest.raises(ConfigError) as error:
        build(root)
    assert "paper.md.in:2: {{crr:base}}" in error.value.message and "'nobody'" in error.value.message
    (root / "paper.md.in").unlink()
    with pytest.raises(ConfigError, match=r"paper\.md\.in"):
        build(root)


@pytest.mark.parametrize("text", ["a_b & 50% #1 {x} ~^\\", "±"])
def test_latex_signs(text):
    escaped = render_tables.escape_latex(text)
    assert not any(sign in escaped.replace("\\" + sign, "") for sign in "&%#_")

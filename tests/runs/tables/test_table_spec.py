"""Specs of tables: each fault is named with the nearest name that is known."""

from __future__ import annotations

import pytest
from planted_tables import SPEC, sealed_runs_and_spec

from thunder.errors import ConfigError
from thunder.runs.tables import table_spec


@pytest.fixture
def root(tmp_path):
    return sealed_runs_and_spec(tmp_path)


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("[base, traj, fast]", "[base, trja]", "no runs are named 'trja'. Did you mean 'traj'"),
        ("cer@novelty", "cer@novel", "no partition is named 'novel'. Did you mean 'novelty'"),
        ("cer@novelty", "crr", "no metric is named 'crr'. Did you mean 'cer'"),
        ("title:", "titel:", "unknown key 'titel'. Did you mean 'title'"),
        ("[fast-1]", "[]", "'fast' names no run"),
        ("[fast-1]", "[fast-1, fast-1]", "'fast' names a run twice"),
        ("name: paper", "name: ../paper", "a name has letters"),
        ("rows: [base, traj, fast]", "rows: [base, base]", "occurs twice"),
        ("thunder.tables/1", "other/1", "schema"),
        ("out: out", "digits: 9", "'digits'"),
        ("  - name: paper", "  - paper", "tables"),
    ],
)
def test_faults_of_a_spec(root, old, new, words):
    (root / "tables.yaml").write_text(SPEC.replace(old, new))
    with pytest.raises(ConfigError) as error:
        table_spec.read_table_spec(root / "tables.yaml")
    assert words in error.value.message

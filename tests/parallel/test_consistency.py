"""Ranks whose inputs differ stop, and each says in what they differ."""

from __future__ import annotations

import pytest
from ring_scripts import PREAMBLE, outputs

from thunder.parallel.consistency import fingerprint_differences

pytestmark = pytest.mark.expensive


def test_ranks_that_differ_stop_and_say_in_what(run_ranks):
    script = (
        PREAMBLE
        + """
fingerprint = {"data": "same", "mlx": "0.32.4" if ring.rank == 0 else "0.31.0"}
try:
    consistency.check_consistency(ring, fingerprint)
    print(json.dumps("no error"))
except ThunderError as error:
    print(json.dumps(error.message))
"""
    )
    answers = outputs(run_ranks(2, script))
    assert len(answers) == 2
    assert all("mlx: rank 0: 0.32.4, rank 1: 0.31.0" in answer and "data" not in answer for answer in answers)


def test_differences_name_absent_keys():
    assert fingerprint_differences([{"a": "1"}, {"a": "1", "b": "2"}]) == ["b: rank 0: (absent), rank 1: 2"]
    assert fingerprint_differences([{"a": "1"}] * 3) == []

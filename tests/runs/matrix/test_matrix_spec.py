"""Matrix files: each run has its flags, and a file that cannot be used is refused."""

from __future__ import annotations

import json

import pytest
from planted_matrix import FINE

from thunder.errors import ConfigError
from thunder.runs.matrix import matrix_spec


def test_flags_and_what_cannot_be_read(tmp_path):
    options = {
        "learning_rate": 1e-4,
        "use_ttt": True,
        "ttt_cap": False,
        "features": ["a", "b"],
        "split": None,
        "seed": 3,
    }
    wanted = "--features a --features b --learning-rate 0.0001 --seed 3 --no-ttt-cap --use-ttt"
    assert matrix_spec.cell_arguments(options) == wanted.split()
    path = tmp_path / "m.json"
    path.write_text(json.dumps(FINE | {"id": "../up", "comparison": []}))
    with pytest.raises(ConfigError, match="unknown key 'comparison'. Did you mean 'comparisons'"):
        matrix_spec.read_matrix(path)
    path.write_text(json.dumps(FINE | {"id": "../up"}))
    with pytest.raises(ConfigError, match="'../up'"):
        matrix_spec.read_matrix(path)
    path.write_text('{"id": "a", "id": "b"}')
    with pytest.raises(ConfigError, match="occurs twice"):
        matrix_spec.read_matrix(path)

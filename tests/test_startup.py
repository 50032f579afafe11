"""The faster start of the processes that tests start: transformers finds the same modules with it as without."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import STARTUP

CODE = """
import hashlib
from pathlib import Path
import transformers
from transformers.utils import import_utils
table = import_utils.define_import_structure.__wrapped__(str(Path(transformers.__file__).parent / "models"))
lines = sorted(f"{sorted(needs)} {name} {sorted(into[name])}" for needs, into in table.items() for name in into)
print(len(lines), hashlib.sha256("\\n".join(lines).encode()).hexdigest())
"""


@pytest.mark.expensive
def test_the_table_from_the_file_is_the_one_that_transformers_makes(tmp_path):
    def table(**changed):
        environ = os.environ | {"PYTHONPATH": str(STARTUP)} | changed
        done = subprocess.run([sys.executable, "-c", CODE], env=environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    plain = table(PYTHONPATH="")
    assert int(plain.split()[0]) > 100
    made, (path,) = table(TEST_STARTUP_CACHE=str(tmp_path)), tmp_path.iterdir()
    assert made == plain and table(TEST_STARTUP_CACHE=str(tmp_path)) == plain
    path.write_bytes(path.read_bytes()[:1000])
    assert table(TEST_STARTUP_CACHE=str(tmp_path)) == plain, "a damaged file is made again"

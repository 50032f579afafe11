"""What version 0.1.0 left behind in `tests/data/version_0.1.0`, and what today's results are compared with."""

from __future__ import annotations

import ctypes
import json
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

VERSION = "version_0.1.0"
ARTIFACTS = Path(__file__).parents[1] / "data" / VERSION
EXPECTED = ARTIFACTS / "expected"
HERE = f"tests/data/{VERSION}"  # the folder as that version's commands named it
# Names of 0.1.0 that today's files write otherwise, old -> new. An entry here is a decision: today's code must read the
# old name too, and the tests in tests/test_compatibility_*.py show that it does.
RENAMED = {
    # options, in plans, results and config.yaml
    "max_wraps": "max_epochs",
    "normalise": "normalize",
    "rules": "gate_rules",
    "unsafe_shape": "ignore_memory_check",
    "window": "chunk_words",
    "THUNDER_KEEPER": "THUNDER_IS_PRIMARY",  # in the plan's environment of a rank, which the same version's ranks read
}
# the sizes of the head `small` that these artifacts are of
TINY_HEAD = {"width": 16, "layers": 1, "heads": 2, "feed_forward": 16, "kernel": 3, "convolutions": 1}


def expected(name: str) -> Any:
    """A JSON file of what version 0.1.0 did."""
    return json.loads((EXPECTED / name).read_text(encoding="utf-8"))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of version 0.1.0: `runs/`, `tests/data/version_0.1.0/`, a private key file."""
    return lay_out(tmp_path, monkeypatch)


def lay_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the artifacts into a folder as that version had them, and make it the working directory."""
    data = folder / HERE
    shutil.copytree(ARTIFACTS, data, ignore=shutil.ignore_patterns("runs"))
    shutil.copytree(ARTIFACTS / "runs", folder / "runs")
    (data / "agp" / "keys.json").chmod(0o600)
    monkeypatch.chdir(folder)
    for name, value in {
        "THUNDER_RUNS": folder / "runs",
        "THUNDER_STATE": data / "state",
        "THUNDER_AGP_KEY_FILE": data / "agp" / "keys.json",
        "XDG_CACHE_HOME": folder / "cache",
    }.items():
        monkeypatch.setenv(name, str(value))
    return folder


def arithmetic() -> dict[str, str]:
    """What decides the last bits of a result on this machine, apart from the code."""
    from thunder.cluster.inventory import openblas

    library = openblas.find_openblas(platform.system())
    core = "none"
    if library is not None:
        corename = ctypes.CDLL(str(library)).openblas_get_corename
        corename.restype = ctypes.c_char_p
        core = corename().decode()
    libc = " ".join(platform.libc_ver())
    return {"mlx": metadata.version("mlx"), "openblas core": core, "libc": libc, "machine": platform.machine()}


def assert_same_weights(path: Path, name: str) -> None:
    """A safetensors file equals one that 0.1.0 made: bit for bit on arithmetic like that machine's, else to 1e-3.

    Another BLAS core sums in another order, and AdamW amplifies the rounding over the steps.
    """
    import mlx.core as mx

    now, before = mx.load(str(path)), mx.load(str(EXPECTED / name))
    assert {key: array.shape for key, array in now.items()} == {key: array.shape for key, array in before.items()}
    for key, array in before.items():
        np.testing.assert_allclose(np.array(now[key]), np.array(array), rtol=1e-3, atol=1e-3, err_msg=key)
    if arithmetic() == expected("arithmetic.json"):
        differing = [key for key in before if not np.array_equal(np.array(now[key]), np.array(before[key]))]
        assert not differing
